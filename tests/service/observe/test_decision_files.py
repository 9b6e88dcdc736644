"""Files of the decision log: closed, packed and removed in time, by whoever finds them."""

import gzip
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any

import pytest
from eventually import eventually

from decisions.files import PACKED, PLAIN, if_closed, listed, lock, new_name
from decisions.lines import Decision, Shown, encode
from decisions.reading import Tally, read_decisions
from service.observe.decision_files import DecisionFiles, Keeper
from service.settings import Settings

LINE = b'{"event":"forgotten","user_id":"u","at":1.0}'


def files(directory: Path, removed: Callable[[], None] = lambda: None, **given: Any) -> DecisionFiles:
    settings = Settings(bundle="unused", **{f"decision_log_{name}": value for name, value in given.items()})
    return DecisionFiles(directory, settings, removed)


def text(directory: Path) -> bytes:
    opened = (gzip.open if path.name.endswith(PACKED) else open for path in listed(directory))
    parts = []
    for path, open_ in zip(listed(directory), opened, strict=True):
        with open_(path, "rb") as file:
            parts.append(file.read())
    return b"".join(parts)


def is_closed(path: Path) -> bool:
    with if_closed(path) as closed:
        return closed is not None


def test_a_file_that_is_large_enough_is_closed_and_packed(tmp_path: Path) -> None:
    sink = files(tmp_path, rotate_bytes=100)
    for number in range(7):
        sink.write([LINE, b"%d" % number])
    assert [is_closed(path) for path in listed(tmp_path)] == [True, True, False]
    Keeper(tmp_path, True, 1 << 30).tidy()
    assert [path.name.endswith(PACKED) for path in listed(tmp_path)] == [True, True, False]
    assert text(tmp_path) == b"".join(LINE + b"\n%d\n" % number for number in range(7))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    sink.close()


def test_a_file_that_is_old_enough_is_closed(tmp_path: Path) -> None:
    sink = files(tmp_path, rotate_s=0.001)
    assert sink.due_s() is None
    sink.write([LINE])
    due_s = sink.due_s()
    assert due_s is not None
    assert due_s <= 0.001
    sink.tend()
    sink.write([LINE])
    assert len(listed(tmp_path)) == 2
    sink.close()


def test_what_somebody_writes_is_left_alone(tmp_path: Path) -> None:
    sink = files(tmp_path)
    sink.write([LINE])
    (tmp_path / new_name()).touch()  # begun, but not yet locked
    Keeper(tmp_path, True, 0).tidy()
    assert len(listed(tmp_path)) == 2
    assert LINE in text(tmp_path)
    sink.close()


def test_what_a_killed_process_left_is_packed(tmp_path: Path) -> None:
    half = tmp_path / new_name()
    half.write_bytes(LINE + b"\n" + LINE[:10])
    whole = tmp_path / new_name()
    whole.write_bytes(LINE + b"\n")
    whole.with_name(whole.name + ".gz").write_bytes(gzip.compress(LINE + b"\n"))  # killed before its removal
    half.with_name(half.name + ".gz.tmp").write_bytes(b"killed while it was packed")
    assert text(tmp_path).count(LINE) == 2, "neither twice nor lost"
    Keeper(tmp_path, True, 1 << 30).tidy()
    assert [path.suffix for path in tmp_path.iterdir()] == [".gz", ".gz"]
    assert text(tmp_path) == LINE + b"\n" + LINE[:10] + LINE + b"\n"


def test_the_oldest_files_make_room(tmp_path: Path) -> None:
    gone: list[int] = []
    names = [tmp_path / new_name() for _ in range(5)]
    for path in names:
        path.write_bytes(LINE * 10)
    Keeper(tmp_path, False, 2 * 10 * len(LINE) + 1, lambda: gone.append(1)).tidy()
    assert listed(tmp_path) == names[3:]
    assert len(gone) == 3


def test_two_processes_do_not_pack_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / new_name()
    path.write_bytes(LINE)
    with path.open("rb") as other:
        lock(other.fileno())
        Keeper(tmp_path, True, 0).tidy()
        assert listed(tmp_path) == [path]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond: as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1, len(LINE), len(LINE) + 1, 2 * len(LINE) + 20])
def test_a_full_disk_neither_loses_nor_doubles_a_line(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.observe.decision_files.AT_ONCE", 2)
    sink = files(tmp_path)
    sink.write([LINE])
    lines = [LINE + b"%d" % number for number in range(3)]
    left = [*lines]
    with largest_file(len(LINE) + 1 + room), pytest.raises(OSError, match="File too large"):
        sink.write(left)
    assert len(left) == 3 - room // (len(LINE) + 2)
    sink.write(left)
    assert left == []
    sink.close()
    assert text(tmp_path) == b"".join(line + b"\n" for line in [LINE, *lines])


def test_a_full_disk_makes_room_without_packing(tmp_path: Path) -> None:
    names = [tmp_path / new_name() for _ in range(3)]
    for path in names:
        path.write_bytes(os.urandom(1000))
    with largest_file(100), pytest.raises(OSError, match="File too large"):
        Keeper(tmp_path, True, 1000).tidy()
    assert sorted(tmp_path.iterdir()) == names[2:], "half a packed file is in nobody's way"


@pytest.mark.parametrize("folder", [False, True])
def test_lines_go_to_a_new_file_where_theirs_was_removed(tmp_path: Path, folder: bool) -> None:
    sink = files(tmp_path / "decisions")
    sink.write([LINE])
    (path,) = listed(tmp_path / "decisions")
    path.unlink()
    if folder:
        path.parent.rmdir()
    sink.write([LINE])
    assert text(path.parent) == LINE + b"\n"
    sink.close()


def test_a_log_is_read_whole_while_it_is_written_and_packed(tmp_path: Path) -> None:
    """Whatever was written before somebody began to read, wherever it goes meanwhile."""
    sink, written, over = files(tmp_path, rotate_bytes=5000), 0, Event()

    def write() -> None:
        nonlocal written
        while not over.is_set():
            place = (f"r{written}", float(written), "m", "1", (Shown("a"), Shown("b")), (1, 0), 2, 1.0)
            sink.write([encode(Decision(*place, id=str(written)))])
            written += 1
            sleep(0.0001)

    sink.start()
    writer = Thread(target=write)
    writer.start()
    try:
        while not written:
            sleep(0.001)
        while (known := written) < 500:
            found = [one.decision.id for one in read_decisions(tmp_path, Tally())]
            assert found[:known] == [str(number) for number in range(known)]
    finally:
        over.set()
        writer.join()
    sink.close()


async def test_what_others_left_is_found_without_a_line_written(tmp_path: Path) -> None:
    (tmp_path / new_name()).write_bytes(LINE + b"\n")
    sink = files(tmp_path)
    sink.start()
    await eventually(lambda: not list(tmp_path.glob(f"*{PLAIN}")))
    sink.close()
    assert os.listdir(tmp_path)[0].endswith(PACKED)
