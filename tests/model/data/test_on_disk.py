"""Lists of a log lie on disk: what is read is what was written, and nothing of it stays in memory."""

import gc
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.errors import RerankerError
from model.data.event_log import read_event_log
from model.data.log_events import Ranking
from model.data.on_disk import BUFFER_BYTES, Numbered, OnDisk
from model.data.simulator import SimulatorConfig, log_events
from model.data.slate import SPLITS, LoggedSlate

LARGE = BUFFER_BYTES // 3


@pytest.fixture
def little_room() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BUFFER_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def in_memory() -> int:
    """How many lists there are, of any log."""
    gc.collect()
    return sum(type(one) in (LoggedSlate, Ranking) for one in gc.get_objects())


def test_values_are_read_as_they_were_added_whether_written_yet_or_not() -> None:
    kept, expected = OnDisk[tuple[int, str]](), []
    for number in range(10):
        expected.append((number, "é" * (LARGE if number % 3 == 0 else number)))
        kept.add(expected[-1])
        assert [kept.read(n) for n in range(len(kept))] == expected


def test_parts_are_sequences() -> None:
    found = Numbered(lambda number: number * number, range(10))
    assert len(found) == 10
    assert found[-1] == 81
    assert list(found[2:8][1:3]) == [9, 16]
    assert list(found[::-3]) == [81, 36, 9, 0]
    assert 49 in found
    with pytest.raises(IndexError):
        found[10]


def test_a_full_disk_is_told_with_its_place(little_room: None) -> None:
    kept = OnDisk[bytes]()
    kept.add(b"x" * LARGE)
    with pytest.raises(RerankerError, match=r"^/.*: File too large; set TMPDIR to where there is room$"):
        kept.add(b"x" * BUFFER_BYTES)


@pytest.mark.parametrize(("name", "fault"), [("nowhere", "No such file"), ("file", "Not a directory")])
def test_another_place_than_the_one_asked_for_is_not_taken(
    name: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path / name))
    with pytest.raises(RerankerError, match=f"^{tmp_path / name}: {fault}.*; set TMPDIR to where"):
        OnDisk[bytes]()


def test_no_list_of_a_log_stays_in_memory(tmp_path: Path) -> None:
    before = in_memory()
    path, config = tmp_path / "log.jsonl", SimulatorConfig(items=50, lists=60)
    path.write_text("".join(json.dumps(event) + "\n" for event in log_events(config)))
    dataset = read_event_log(path, "log")
    lists = [slate for split in SPLITS for slate in dataset.slates[split]]
    assert len(lists) + sum(dataset.dropped.values()) == config.lists
    assert {len(slate.user.history) > 0 for slate in lists} == {True, False}
    assert in_memory() - before == len(lists)
    del lists
    assert in_memory() == before
