"""What long work says of itself where no terminal shows a bar."""

import pytest

from model import progress
from model.progress import console, duration


def test_a_line_now_and_then_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for line_s, told in ((3600.0, []), (0.0, ["lists: 0 of 2", "lists: 1 of 2", "rows: 0"])):
        monkeypatch.setattr(progress, "LINE_S", line_s)
        with console.capture() as said:
            assert list(progress.progress([3, 4], "lists")) == [3, 4]
            assert list(progress.progress(iter([5]), "rows")) == [5]
        assert said.get().splitlines() == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 s"), (119.5, "120 s"), (120, "2 min"), (181, "4 min"), (7200, "2 h"), (400_000, "112 h")],
)
def test_a_duration_is_rounded_up(seconds: float, told: str) -> None:
    assert duration(seconds) == told
