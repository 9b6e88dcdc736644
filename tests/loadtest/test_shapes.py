"""Shapes: their levels fill the run, and load what their names say."""

import pytest

from loadtest.shapes import SHAPES, Level, levels


@pytest.mark.parametrize("shape", SHAPES)
def test_levels_fill_the_run(shape: str) -> None:
    found = levels(shape, 120.0, 60)
    assert found[0].start_s == 0.0
    assert found[-1].end_s == pytest.approx(120.0)
    assert [level.start_s for level in found[1:]] == [level.end_s for level in found[:-1]]
    assert all(1 <= level.users <= 60 for level in found)


def test_what_they_load() -> None:
    assert levels("steady", 10.0, 4) == [Level(0.0, 10.0, 4)]
    assert [level.users for level in levels("ramp", 120.0, 60)] == [10, 20, 30, 40, 50, 60]
    assert [(level.start_s, level.users) for level in levels("spike", 100.0, 40)] == [
        (0.0, 10),
        (40.0, 40),
        (pytest.approx(60.0), 10),
    ]
    assert {level.users for level in levels("soak", 100.0, 10)} == {6}
    assert {level.users for level in levels("ramp", 6.0, 1)} == {1}, "never nobody"
