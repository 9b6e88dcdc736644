"""Forgotten people's lines leave the files that nobody writes; all else stays as it was."""

import gzip
import os
from pathlib import Path

import pytest

from decisions.__main__ import main
from decisions.compaction import compact
from decisions.files import lock
from decisions.lines import Decision, Feedback, Forgotten, Line, Outcome, Shown, encode
from decisions.reading import DecisionLogError


def decision(user: str | None, at: float) -> Decision:
    items = (Shown("i1"), Shown("i2"))
    return Decision("r", at, "m", "1", items, (1, 0), 2, 1.0, id=f"{user}-{at}", user_id=user)


def feedback(user: str, at: float) -> Feedback:
    return Feedback(f"{user}-{at}", at, (Outcome("i1", "click", at),), user)


def written(path: Path, *lines: Line, packed: bool = False, cut: bytes = b"") -> Path:
    text = b"".join(encode(line) + b"\n" for line in lines) + cut
    path.write_bytes(gzip.compress(text) if packed else text)
    path.chmod(0o600)
    return path


def text(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.fixture
def log(tmp_path: Path) -> list[Path]:
    """An old packed file, one of a killed process, one with the tombstone, and one without any of theirs."""
    return [
        written(
            tmp_path / "decisions-1.jsonl.gz",
            decision("a", 1),
            decision("b", 1),
            decision(None, 1),
            packed=True,
        ),
        written(tmp_path / "decisions-2.jsonl", feedback("a", 2), feedback("b", 2), cut=b'{"event":"fe'),
        written(tmp_path / "decisions-3.jsonl", Forgotten("a", 3), decision("a", 4), decision("a", 3)),
        written(tmp_path / "decisions-4.jsonl", decision("b", 5)),
    ]


def test_lines_before_the_tombstone_are_gone(log: list[Path]) -> None:
    before = [path.stat().st_ino for path in log]
    done = compact(log[0].parent)
    assert (done.files, done.lines, done.busy) == (3, 4, 0)
    expected: list[list[Line]] = [
        [decision("b", 1), decision(None, 1)],
        [feedback("b", 2)],
        [Forgotten("a", 3), decision("a", 4)],
        [decision("b", 5)],
    ]
    assert [text(path) for path in log] == [
        b"".join(encode(one) + b"\n" for one in part) for part in expected
    ]
    assert log[3].stat().st_ino == before[3], "was not touched"
    assert {path.stat().st_mode & 0o777 for path in log} == {0o600}
    assert sorted(log[0].parent.iterdir()) == log, "nothing else is left"
    assert compact(log[0].parent).files == 0


def test_a_file_that_is_being_written_is_done_once_it_is_closed(log: list[Path]) -> None:
    before = log[2].read_bytes()
    with log[2].open("ab") as worker:
        lock(worker.fileno())
        assert (compact(log[0].parent).lines, log[2].read_bytes()) == (3, before)
    assert compact(log[0].parent).lines == 1


def test_what_stopped_halfway_is_taken_up(log: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space left")

    before = [path.read_bytes() for path in log]
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        assert main(["compact", str(log[0].parent)]) == 2
    assert [path.read_bytes() for path in log] == before
    (log[0].parent / "decisions-1.jsonl.gz.tmp").write_bytes(b"of a run that was killed")
    assert main(["compact", str(log[0].parent)]) == 0
    assert b'"a"' not in text(log[0])
    assert sorted(log[0].parent.iterdir()) == log


def test_half_a_line_of_somebody_is_gone(tmp_path: Path) -> None:
    """It may name whoever asked to be forgotten, and nothing else in its file does."""
    cut = encode(decision("a", 1))[:-2]
    files = [
        written(tmp_path / "decisions-1.jsonl", decision("b", 1), cut=cut),
        written(tmp_path / "decisions-2.jsonl.gz", decision("b", 1), packed=True, cut=cut),
        written(tmp_path / "decisions-3.jsonl", Forgotten("a", 3)),
    ]
    assert compact(tmp_path).lines == 2
    assert [text(path) for path in files[:2]] == [encode(decision("b", 1)) + b"\n"] * 2


def test_what_was_left_half_done_of_another_file_is_gone(log: list[Path]) -> None:
    """Somebody was killed at it, and what it was made of was packed or removed since."""
    folder = log[0].parent
    for name in ("decisions-0.jsonl.tmp", "decisions-1.jsonl.tmp", "decisions-4.jsonl.gz.tmp"):
        written(folder / name, decision("a", 1))
    written(folder / "decisions-3.jsonl.gz.tmp", decision("a", 1))
    foreign = written(folder / "notes.tmp")
    with log[2].open("ab") as worker:  # who packs it
        lock(worker.fileno())
        compact(folder)
        assert sorted(folder.iterdir()) == sorted([*log, folder / "decisions-3.jsonl.gz.tmp", foreign])
    compact(folder)
    assert sorted(folder.iterdir()) == [*log, foreign]


def test_a_bad_line_is_told_and_its_file_kept(log: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    log[3].write_bytes(b"{}\n" + encode(decision("b", 5)) + b"\n")
    before = log[3].read_bytes()
    assert main(["compact", str(log[0].parent)]) == 2
    assert "decisions-4.jsonl:1" in capsys.readouterr().err
    assert log[3].read_bytes() == before


def test_a_folder_without_a_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(DecisionLogError):
        compact(tmp_path)
