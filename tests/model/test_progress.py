"""What long work says of itself where no terminal shows a bar."""

import pytest

from model import progress
from model.progress import console, duration


@pytest.mark.parametrize("rows", [range(4), iter(range(4))], ids=["sized", "not sized"])
def test_a_line_now_and_then_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch, rows: range) -> None:
    now = iter([0.0, 10.0, 61.0, 61.0, 70.0, 130.0, 130.0])  # one on each row, one more after each line
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with console.capture() as said:
        assert list(progress.progress(rows, "lists")) == [0, 1, 2, 3]
    of = " of 4" if isinstance(rows, range) else ""
    assert said.get().splitlines() == [f"lists: 1{of}", f"lists: 3{of}"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 s"), (119.5, "120 s"), (120, "2 min"), (181, "4 min"), (7200, "2 h"), (400_000, "112 h")],
)
def test_a_duration_is_rounded_up(seconds: float, told: str) -> None:
    assert duration(seconds) == told
