"""What callers saw beside a decision log written by hand: each way to lose or double something is counted."""

from pathlib import Path

import pytest

from decisions.lines import Decision, Feedback, Outcome, Shown, encode
from loop.audit import Audit, audit, copy_lines
from loop.traffic import Shown as List


def decision(name: str, user: str) -> Decision:
    return Decision(
        request_id=f"r-{name}",
        at=1.0,
        model="m",
        model_version="1",
        items=(Shown("a"), Shown("b")),
        slate=(0, 1),
        wanted=2,
        took_ms=1.0,
        id=name,
        user_id=user,
    )


def feedback(name: str, user: str, *events: str) -> Feedback:
    outcomes = tuple(Outcome("a", "click", 2.0, event) for event in events)
    return Feedback(name, 2.0, outcomes, user)


def shown(name: str, user: str, *accepted: str) -> List:
    return List(user, name, [0, 1], 1.0, len(accepted), False, list(accepted))


WHOLE = [decision("d1", "u1"), feedback("d1", "u1", "e1", "e2"), decision("d2", "u2")]
SEEN = [shown("d1", "u1", "e1", "e2"), shown("d2", "u2")]


def written(folder: Path, lines: list[Decision | Feedback]) -> Path:
    """In two files, as two processes leave them."""
    folder.mkdir()
    for name, part in (("a", lines[:2]), ("b", lines[2:])):
        (folder / f"decisions-{name}.jsonl").write_bytes(b"".join(encode(line) + b"\n" for line in part))
    return folder


@pytest.mark.parametrize(
    ("lines", "seen", "expected"),
    [
        (WHOLE, SEEN, {}),
        ([*WHOLE, decision("d9", "u9"), feedback("d9", "u9", "e9")], SEEN, {}),
        ([*WHOLE, feedback("d1", "u1", "e2")], SEEN, {"doubled": 1}),
        ([*WHOLE, decision("d3", "u2")], SEEN, {"decisions": 3, "unseen": 1}),
        ([*WHOLE, decision("d1", "u1")], SEEN, {"decisions": 3, "unseen": 1}),
        (WHOLE[:2], SEEN, {"decisions": 1, "missing": 1}),
        ([WHOLE[0], WHOLE[2]], SEEN, {"events": 0, "lost": 2}),
        (WHOLE, [shown("d1", "u1", "e1"), SEEN[1]], {"unknown": 1}),
    ],
)
def test_each_line_is_counted(
    tmp_path: Path, lines: list[Decision | Feedback], seen: list[List], expected: dict[str, int]
) -> None:
    nothing = {"unseen": 0, "missing": 0, "lost": 0, "doubled": 0, "unknown": 0}
    found = audit(written(tmp_path / "log", lines), seen)
    assert found == Audit(**{"decisions": 2, "events": 2, **nothing, **expected})
    assert found.whole == (not {"lost", "missing"} & expected.keys())


def test_lines_of_some_people_are_a_log_of_their_own(tmp_path: Path) -> None:
    log = written(tmp_path / "log", [*WHOLE])
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "decisions-earlier.jsonl").write_bytes(encode(decision("old", "u1")) + b"\n")
    copy_lines(log, {"u1"}, tmp_path / "some")
    (path,) = (tmp_path / "some").iterdir()
    assert path.read_bytes() == encode(WHOLE[0]) + b"\n" + encode(WHOLE[1]) + b"\n"
