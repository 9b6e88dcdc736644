"""Decision logs written here, line by line, and what is read of them."""

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from decisions.lines import Decision, Feedback, Forgotten, Line, Outcome, Shown, encode
from decisions.reading import (
    DISORDER_S,
    DecisionLogError,
    Joined,
    Tally,
    log_files,
    ranked_as_of,
    read_decisions,
    read_lines,
)


def decision(name: str | None, at: float, user: str | None = "u", **given: Any) -> Decision:
    return Decision(
        request_id=f"request {name}",
        at=at,
        model="m",
        model_version="1",
        items=tuple(Shown(item) for item in "abcd"),
        slate=(2, 0),
        wanted=2,
        took_ms=1.0,
        id=name,
        user_id=user,
        **given,
    )


def clicked(name: str, at: float, *items: str, event_id: str | None = None, user: str = "u") -> Feedback:
    return Feedback(name, at, tuple(Outcome(item, "click", at, event_id) for item in items), user)


def write(path: Path, lines: Sequence[Line], end: bytes = b"\n") -> None:
    text = b"\n".join(encode(line) for line in lines) + end
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def read(directory: Path, window_s: float = 100.0) -> tuple[list[Joined], Tally]:
    tally = Tally()
    return list(read_decisions(directory, tally, window_s)), tally


def items(joined: list[Joined]) -> dict[str | None, list[str]]:
    return {one.decision.id: [outcome.item_id for outcome in one.outcomes] for one in joined}


def test_feedback_is_joined_across_files_in_the_order_of_time(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", [decision("1", 0.0), clicked("2", 30.0, "a")])
    write(tmp_path / "pod/a.jsonl.gz", [decision("2", 10.0), clicked("1", 20.0, "c"), decision("3", 500.0)])
    joined, tally = read(tmp_path)
    assert items(joined) == {"1": ["c"], "2": ["a"], "3": []}
    assert [one.decision.at for one in joined] == [0.0, 10.0, 500.0]
    assert tally == Tally(decisions=3, events=2, open=1)


def test_lines_of_a_file_may_stand_a_little_out_of_order(tmp_path: Path) -> None:
    """A decision is written when it was answered, and bears the time when it was asked for."""
    write(tmp_path / "a.jsonl", [clicked("1", 20.0, "a"), decision("2", 15.0), decision("1", 10.0)])
    assert items(read(tmp_path)[0]) == {"1": ["a"], "2": []}
    later = [decision("2", 21.0 + DISORDER_S), decision("3", 22.0 + 2 * DISORDER_S)]
    write(tmp_path / "a.jsonl", [clicked("1", 20.0, "a"), *later, decision("1", 10.0)])
    assert read(tmp_path)[1].unknown_events == 1


def test_feedback_may_be_older_than_its_decision_by_another_clock(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [decision("1", 100.0), decision("2", 100.0 + DISORDER_S)])
    write(
        tmp_path / "b.jsonl", [clicked("1", 99.0, "a"), clicked("2", 99.0, "a"), clicked("none", 99.0, "a")]
    )
    joined, tally = read(tmp_path)
    assert items(joined) == {"1": ["a"], "2": []}
    assert (tally.events, tally.unknown_events) == (1, 2)


def test_a_file_that_was_copied_counts_once(tmp_path: Path) -> None:
    lines = [decision("1", 0.0), clicked("1", 1.0, "a", "c"), clicked("1", 2.0, "a"), Forgotten("v", 3.0)]
    write(tmp_path / "a.jsonl", lines)
    once = items(read(tmp_path)[0])
    write(tmp_path / "copy/b.jsonl.gz", lines)
    joined, tally = read(tmp_path)
    assert items(joined) == once == {"1": ["a", "c", "a"]}
    assert (tally.repeated, tally.events, tally.repeated_events) == (1, 3, 3)


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [(None, 5.0), (1.7e9, 1.7e9), (1_700_000_000_500, 1.7e9 + 0.5), ("1700000000", 1.7e9)],
)
def test_ages_count_back_from_what_was_sent_as_the_service_reads_it(sent: object, seconds: float) -> None:
    assert ranked_as_of(structs.replace(decision("1", 5.0), context={"timestamp": sent})) == seconds


def test_the_window_is_counted_from_the_decision(tmp_path: Path) -> None:
    lines: list[Line] = [decision("1", 0.0), clicked("1", 100.0, "a"), clicked("1", 100.5, "c")]
    write(tmp_path / "a.jsonl", [*lines, clicked("1", 201.0, "c"), clicked("none", 202.0, "c", "a")])
    joined, tally = read(tmp_path)
    assert items(joined) == {"1": ["a"]}
    assert (tally.late_events, tally.unknown_events) == (1, 3)
    assert items(read(tmp_path, window_s=300.0)[0]) == {"1": ["a", "c", "c"]}


def test_what_is_too_early_is_left_out_and_counted(tmp_path: Path) -> None:
    lines = [decision("x", 10.0), decision("y", 20.0), clicked("x", 21.0, "a"), clicked("y", 22.0, "c")]
    write(tmp_path / "a.jsonl", lines)
    tally = Tally()
    assert items(list(read_decisions(tmp_path, tally, since=20.0))) == {"y": ["c"]}
    assert (tally.decisions, tally.earlier) == (2, 1)


def test_what_cannot_be_joined_is_counted(tmp_path: Path) -> None:
    lines = [
        decision(None, 0.0),
        decision("1", 1.0, fallback="overload"),
        decision("1", 2.0),
        clicked("1", 3.0, "a", event_id="e"),
        clicked("1", 4.0, "c", event_id="e"),
        clicked("1", 5.0, "b", "z"),  # b was sent, and not shown
    ]
    write(tmp_path / "a.jsonl", lines)
    joined, tally = read(tmp_path)
    assert items(joined) == {"1": ["a"]}
    assert joined[0].decision.fallback == "overload"
    assert tally == Tally(
        decisions=1,
        fallbacks=1,
        open=1,
        events=1,
        without_id=1,
        repeated=1,
        repeated_events=1,
        foreign_events=2,
    )
    assert str(tally).startswith("decisions 1, fallbacks 1, open 1, events 1, without id 1")


def test_nothing_earlier_of_a_forgotten_user_is_used(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [decision("1", 0.0), decision("2", 1.0, "v"), decision("3", 50.0)])
    write(
        tmp_path / "b.jsonl",
        [
            clicked("1", 5.0, "a"),
            clicked("2", 6.0, "a", user="v"),
            Forgotten("u", 40.0),
            clicked("1", 45.0, "c"),
            clicked("3", 60.0, "c"),
        ],
    )
    joined, tally = read(tmp_path)
    assert items(joined) == {"2": ["a"], "3": ["c"]}
    assert (tally.decisions, tally.forgotten, tally.forgotten_events) == (2, 1, 2)
    write(tmp_path / "later.jsonl.gz", [Forgotten("u", 1000.0)])
    assert items(read(tmp_path)[0]) == {"2": ["a"]}


def test_a_last_line_may_be_cut_short(tmp_path: Path) -> None:
    whole, cut = encode(decision("1", 0.0)), encode(decision("2", 1.0))[:-20]
    (tmp_path / "a.jsonl").write_bytes(whole + b"\n" + cut)
    (tmp_path / "b.jsonl").write_bytes(cut)
    (tmp_path / "c.jsonl").write_bytes(b"")
    (tmp_path / "d.jsonl").write_bytes(encode(decision("3", 1.0)))
    joined, tally = read(tmp_path)
    assert set(items(joined)) == {"1", "3"}
    assert tally.truncated == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slate": [4]}, "a.jsonl:2: slate: an index past the last of 4 items"),
        ({"slate": [1, 1]}, "a.jsonl:2: slate: an item comes twice"),
        ({"items": [{"id": "a"}, {"id": "a"}], "slate": []}, "a.jsonl:2: items: an id comes twice"),
        ({"probability": [0.5, 0.5, 0.5]}, "a.jsonl:2: probability: 3 of a slate of 2"),
        ({"propensity": [0.5]}, "a.jsonl:2: propensity: 1 positions, probability has 0"),
        ({"propensity": [1.5]}, r"a.jsonl:2: Expected `float` <= 1.0 - at `\$.propensity\[0\]`"),
        ({"context": {"timestamp": []}}, "a.jsonl:2: context.timestamp: float"),
        ({"context": {"timestamp": 1e30}}, "a.jsonl:2: context.timestamp: 1e.30 is no unix time"),
        ({"event": "decided"}, "a.jsonl:2: Invalid value 'decided'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    good = encode(decision("1", 0.0))
    bad = json.dumps(json.loads(good) | changes).encode()
    (tmp_path / "a.jsonl").write_bytes(good + b"\n" + bad + b"\n" + good + b"\n")
    with pytest.raises(DecisionLogError, match=message):
        read(tmp_path)


def test_a_line_in_the_middle_may_not_be_cut_short(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"event": "deci\n' + encode(decision("1", 0.0)) + b"\n")
    with pytest.raises(DecisionLogError, match=r"a\.jsonl:1: JSON is malformed"):
        read(tmp_path)


def test_half_a_compressed_file_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl.gz", [decision(str(n), float(n)) for n in range(1000)])
    whole = (tmp_path / "a.jsonl.gz").read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DecisionLogError, match=r"a\.jsonl\.gz:\d+: not whole"):
        read(tmp_path)


def test_a_file_that_is_being_compressed_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl.gz", [decision("1", 0.0), clicked("1", 1.0, "a")])
    write(tmp_path / "a.jsonl", [decision("1", 0.0), clicked("1", 1.0, "a")])
    assert log_files(tmp_path) == [tmp_path / "a.jsonl.gz"]
    (tmp_path / "a.jsonl").unlink()
    assert [line.at for _, line in read_lines(tmp_path / "a.jsonl")] == [0.0, 1.0]  # compressed meanwhile
    assert items(read(tmp_path)[0]) == {"1": ["a"]}


def test_a_file_that_is_compressed_while_files_are_listed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two looks, as the service might."""
    plain, rglob = tmp_path / "a.jsonl", Path.rglob
    write(plain, [decision("1", 0.0)])

    def then_compressed(directory: Path, pattern: str) -> Iterator[Path]:
        yield from rglob(directory, pattern)
        write(tmp_path / "a.jsonl.gz", [decision("1", 0.0)])
        plain.unlink(missing_ok=True)

    monkeypatch.setattr(Path, "rglob", then_compressed)
    assert log_files(tmp_path) == [tmp_path / "a.jsonl.gz"]


@pytest.mark.parametrize("name", ["day/b.jsonl.zst", "b.jsonl.1"])
def test_files_that_cannot_be_read_are_not_left_out_silently(tmp_path: Path, name: str) -> None:
    """Somebody in them may have asked to be forgotten."""
    write(tmp_path / "a.jsonl", [decision("1", 0.0)])
    (tmp_path / "c.jsonl.gz.tmp").write_bytes(b"being packed")
    (tmp_path / ".d.jsonl.gz.Zk3a").write_bytes(b"being copied here")
    assert log_files(tmp_path) == [tmp_path / "a.jsonl"]
    write(tmp_path / name, [Forgotten("u", 1.0)])
    with pytest.raises(DecisionLogError, match=f"{name}: is neither .*: unpack it, or use gzip"):
        log_files(tmp_path)


def test_the_rest_of_a_line_that_was_being_written_is_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is looked for stands in either part."""
    line = encode(Forgotten("u", 1.0)) + b"\n"
    for cut in range(1, len(line)):
        monkeypatch.setattr(
            "decisions.reading._opened", lambda path, cut=cut: nullcontext([line[:cut], line[cut:]])
        )
        found = list(read_lines(tmp_path / "a.jsonl", only=b'"forgotten"'))
        assert len(found) == (cut == len(line) - 1)


def test_a_file_that_is_removed_before_its_turn_is_counted(tmp_path: Path) -> None:
    """The service makes room while somebody reads."""
    write(tmp_path / "a.jsonl", [decision("1", 0.0), decision("2", 1000.0)])
    write(tmp_path / "b.jsonl", [decision("3", 2000.0)])
    tally = Tally()
    reading = read_decisions(tmp_path, tally, window_s=1.0)
    assert next(reading).decision.id == "1"
    (tmp_path / "b.jsonl").unlink()
    assert [one.decision.id for one in reading] == ["2"]
    assert tally.removed == 1


def test_no_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DecisionLogError, match=r"no \*\.jsonl or \*\.jsonl\.gz here"):
        read(tmp_path)


def test_no_more_is_held_than_a_window(tmp_path: Path) -> None:
    """A decision is given out as soon as its window is over, before the rest was read."""
    write(tmp_path / "a.jsonl", [decision(str(n), 10.0 * n) for n in range(1000)])
    tally = Tally()
    next(read_decisions(tmp_path, tally, window_s=10.0))
    assert tally.decisions == 1
