"""Recording an event log and reading it back."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from loadtest import record
from loadtest.replay import Recorded, feedback, read_replay


def ranking(number: int, timestamp_ms: int, *items: str) -> dict[str, Any]:
    listed = [{"id": item, "fields": []} for item in items]
    return {
        "event": "ranking",
        "id": f"r{number}",
        "user": "u1",
        "timestamp": str(1_700_000_000_000 + timestamp_ms),
        "items": listed,
    }


EVENTS = [
    {"event": "item", "item": "a", "fields": []},
    ranking(3, 9_000, "a", "b", "c"),
    ranking(1, 5_000, "a", "b"),
    ranking(2, 5_000, "b", "a"),
    {"event": "interaction", "ranking": "r1", "item": "b", "type": "click"},
    {"event": "interaction", "ranking": "r3", "item": "c", "type": "click"},
    {"event": "interaction", "ranking": "r3", "item": "a", "type": "click"},
]


def test_rankings_become_requests_in_their_order() -> None:
    lines = list(record.record(EVENTS, None, top_n=5))
    assert [line["at_s"] for line in lines] == [0.0, 0.5, 4.0], "two in one second are spread over it"
    assert lines[0]["body"] == {"user_id": "u1", "items": [{"id": "a"}, {"id": "b"}], "top_n": 5}
    assert [line["clicked"] for line in lines] == [["b"], [], ["c", "a"]]


def test_a_rate_scales_time_as_a_whole() -> None:
    at_s = [line["at_s"] for line in record.record(EVENTS, 10.0, top_n=5)]
    assert at_s == [0.0, 0.025, 0.2], "two gaps at ten a second, one eight times as long as the other"


@pytest.mark.parametrize("name", ["replay.jsonl", "replay.jsonl.gz"])
def test_written_and_read_back(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = tmp_path / "events.jsonl.gz"
    with gzip.open(events, "wt") as log:
        log.writelines(json.dumps(event) + "\n" for event in EVENTS)
    assert record.main([str(events), str(tmp_path / name)]) == 0
    assert "3 requests in 4 s" in capsys.readouterr().out
    first, _, last = read_replay(tmp_path / name)
    assert (first.at_s, first.clicked) == (0.0, {"b"})
    assert last == Recorded(
        4.0, {"user_id": "u1", "items": [{"id": i} for i in "abc"], "top_n": 10}, {"a", "c"}
    )


def test_clicks_are_those_recorded_wherever_the_items_are_now() -> None:
    recorded = Recorded(0.0, {}, frozenset({"c", "gone"}))
    answer = {"recommendation_id": "r", "results": [{"id": "c"}, {"id": "a"}]}
    assert feedback(recorded, answer) == {
        "recommendation_id": "r",
        "events": [
            {"type": "click", "item_id": "c", "position": 0},
            {"type": "impression", "item_id": "a", "position": 1},
        ],
    }
    assert feedback(recorded, answer | {"recommendation_id": None}) is None


GOOD = {"at_s": 1.0, "body": {"items": [{"id": "a"}], "top_n": 1}}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "JSONDecodeError"),
        (json.dumps({"at_s": 2.0}), "'body'"),
        (json.dumps(GOOD | {"body": {"items": ["a"], "top_n": 1}}), "TypeError"),
        (json.dumps(GOOD | {"at_s": 0.5}), "0.5 s comes after 1.0 s"),
    ],
)
def test_a_line_that_is_none_is_named(line: str, told: str, tmp_path: Path) -> None:
    log = tmp_path / "replay.jsonl"
    log.write_text(f"{json.dumps(GOOD)}\n{line}\n")
    with pytest.raises(ValueError, match=r"replay\.jsonl:2: ") as error:
        list(read_replay(log))
    assert told in str(error.value)


def test_a_log_without_rankings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.jsonl").write_text(json.dumps(EVENTS[0]))
    assert record.main([str(tmp_path / "events.jsonl"), str(tmp_path / "out.jsonl")]) == 2
    assert "no rankings" in capsys.readouterr().err
