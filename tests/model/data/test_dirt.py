"""Every kind of dirt in a log: what is said of it, and whether the log is refused.

Long, because every kind has its row, and the rows are read beside the table in docs/own-logs.md.
"""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_log import LINES, START_MS, clean, click, fields, item, ranking, schema, text, write

from model.data.check import check
from model.data.event_log import dataset_of, read_event_log
from model.data.findings import EventLogError, Findings
from model.data.log_lines import read_values
from model.data.past import MOST_PAST
from model.data.slate import SPLITS, Dataset, LoggedSlate

AT = START_MS + 10_000_000
NEXT = LINES + 1
"""The line of what is added to the clean log."""


def read(path: Path, **changes: Any) -> Dataset:
    found = Findings()
    return dataset_of(read_values(path, found), path.stem, found, schema(**changes))


def said(path: Path, **changes: Any) -> tuple[list[str], list[str]]:
    """What is said of a log, and what of it refuses it; `LOG` stands for its path."""
    report, _ = check(read(path, **changes), schema(**changes))
    lines = [(one.line.replace(str(path), "LOG"), one.refused) for one in report.findings]
    return [line for line, _ in lines], [line for line, refused in lines if refused]


def slates(dataset: Dataset) -> dict[str, LoggedSlate]:
    return {slate.request_id: slate for split in SPLITS for slate in dataset.slates[split]}


def test_a_clean_log_says_only_what_its_times_are_in(tmp_path: Path) -> None:
    lines, refused = said(write(tmp_path / "log.jsonl", clean()))
    assert lines == ["LOG:41: timestamps are in milliseconds (120 times)"]
    assert not refused


LEFT_OUT = {
    "ranking id used again": (
        [ranking("r0")],
        f"LOG:{NEXT}: ranking id 'r0' is used again, first at LOG:41; of which its interactions are "
        "cannot be told "
        "(1 of 61 rankings left out)",
    ),
    "interaction without its list": (
        [click("gone")],
        f"LOG:{NEXT}: interaction with ranking 'gone', which the log does not have (1 of 61 "
        "interactions left out)",
    ),
    "interaction with an item that was not shown": (
        [click("r0", "i39")],
        f"LOG:{NEXT}: interaction with item 'i39', which ranking 'r0' did not show (1 of 61 "
        "interactions left out)",
    ),
    "missing key": (
        [ranking("x", timestamp=...)],
        f"LOG:{NEXT}: ranking without `timestamp` (1 of 61 rankings left out)",
    ),
    "misspelt key": (
        [ranking("x", timestamp=..., timestmap=AT)],
        f"LOG:{NEXT}: ranking without `timestamp`; did you mean `timestmap`? (1 of 61 rankings left out)",
    ),
    "no event": ([{"id": "x"}], f"LOG:{NEXT}: no `event` in an object with id (1 of 161 lines left out)"),
    "unknown event": (
        [{"event": "banana"}],
        f"LOG:{NEXT}: event 'banana' is not item, user, ranking or interaction (1 of 161 lines left out)",
    ),
    "a list": ([[1, 2]], f"LOG:{NEXT}: expected an object, got a list of 2 (1 of 161 lines left out)"),
    "null": (["null"], f"LOG:{NEXT}: expected an object, got null (1 of 161 lines left out)"),
    "a string": (['"x"'], f'LOG:{NEXT}: expected an object, got the text "x" (1 of 161 lines left out)'),
    "half a line": (
        ['{"event": "item"'],
        f"LOG:{NEXT}: not JSON: Expecting ',' delimiter, column 17 (1 of 161 lines left out)",
    ),
    "a row of CSV": (
        ["r1,u1,i1"],
        f"LOG:{NEXT}: not JSON: Expecting value, column 1; a table? `python -m model.data convert` "
        "makes a log of "
        "CSV and Parquet (1 of 161 lines left out)",
    ),
    "timestamp in words": (
        [ranking("x", timestamp="yesterday")],
        f"LOG:{NEXT}: `timestamp`: expected unix time or ISO 8601, got 'yesterday' (1 of 61 rankings "
        "left out)",
    ),
    "timestamp true": (
        [ranking("x", timestamp=True)],
        f"LOG:{NEXT}: `timestamp`: expected unix time or ISO 8601, got bool (1 of 61 rankings left out)",
    ),
    "half of a surrogate pair": (
        ['{"event": "user", "user": "\\ud800"}'],
        f"LOG:{NEXT}: not JSON: half of a pair of surrogates (1 of 161 lines left out)",
    ),
    "a number of too many digits": (
        ['{"event": ' + "1" * 5000 + "}"],
        f"LOG:{NEXT}: not JSON that can be read: nested too deeply, or a number of too many digits "
        "(1 of 161 lines left out)",
    ),
    "nested too deeply": (
        ["[" * 100_000],
        f"LOG:{NEXT}: not JSON that can be read: nested too deeply, or a number of too many digits "
        "(1 of 161 lines left out)",
    ),
    "timestamp without end": (
        [ranking("x", timestamp=10**400)],
        f"LOG:{NEXT}: `timestamp`: a number without end is no time (1 of 61 rankings left out)",
    ),
    "timestamp too large": (
        [ranking("x", timestamp=1e25)],
        f"LOG:{NEXT}: `timestamp`: 1e+25 is no unix time: it is past the year 5138 even in nanoseconds "
        "(1 of 61 rankings left out)",
    ),
    "id null": (
        [ranking("x", id=None)],
        f"LOG:{NEXT}: `id`: expected a text or a number, got null (1 of 61 rankings left out)",
    ),
    "id true": (
        [click("r0", True)],
        f"LOG:{NEXT}: `item`: expected a text or a number, got true (1 of 61 interactions left out)",
    ),
    "no items": (
        [ranking("x", items=[])],
        f"LOG:{NEXT}: a ranking without items (1 of 61 rankings left out)",
    ),
    "items in a text": (
        [ranking("x", items="i1,i2")],
        f'LOG:{NEXT}: `items`: expected a list, got the text "i1,i2" (1 of 61 rankings left out)',
    ),
    "field without a value": (
        [ranking("x", fields=[{"name": "device"}])],
        f"LOG:{NEXT}: field 'device' without `value` (1 of 61 rankings left out)",
    ),
    "field that is a text": (
        [ranking("x", fields=["device"])],
        f'LOG:{NEXT}: `fields`: the text "device" is no name and value (1 of 61 rankings left out)',
    ),
    "shown past the last": (
        [ranking("x", shown=[0, 3])],
        f"LOG:{NEXT}: `shown`: expected different indices of 3 items, got [0, 3] (1 of 61 rankings left out)",
    ),
    "propensities of another length": (
        [ranking("x", shown=[0, 1], propensity=[0.5])],
        f"LOG:{NEXT}: propensity: 1 for 2 items shown (1 of 61 rankings left out)",
    ),
    "item twice where it was said what was shown": (
        [ranking("x", items=[{"id": "i0"}, {"id": "i0"}], shown=[1])],
        f"LOG:{NEXT}: item 'i0' is twice in a list that says what was shown (1 of 61 rankings left out)",
    ),
    "words for a number": (
        [item("x", price="cheap")],
        f'LOG:{NEXT}: `price`: expected a number (numeric), got the text "cheap"; words are kind '
        "`categorical`, "
        "a text's length is `text_length` (1 of 41 values of `price` left out)",
    ),
    "a number in quotes": (
        [item("x", price="12.5")],
        f'LOG:{NEXT}: `price`: expected a number (numeric), got the text "12.5"; without quotes it is one '
        "(1 of 41 values of `price` left out)",
    ),
    "a number for words": (
        [item("x", title=7)],
        f"LOG:{NEXT}: `title`: expected a text (text_length), got the number 7 (1 of 41 values of "
        "`title` left out)",
    ),
    "several words for one": (
        [item("x", maker=["a", "b"])],
        f"LOG:{NEXT}: `maker`: expected one value (categorical), got a list of 2; declare the field "
        "multivalued "
        "(1 of 41 values of `maker` left out)",
    ),
    "a vector of another size": (
        [item("x", look=[1.0])],
        f"LOG:{NEXT}: `look`: expected 2 numbers (vector), got a list of 1 (1 of 41 values of `look` "
        "left out)",
    ),
    "a list with null in it": (
        [item("x", genres=["x", None])],
        f"LOG:{NEXT}: `genres`: expected a list of words or numbers (multivalued), got null "
        "(1 of 41 values of `genres` left out)",
    ),
    "an age in words": (
        [item("x", released="long ago")],
        f"LOG:{NEXT}: `released`: expected unix time or ISO 8601, got 'long ago' "
        "(1 of 41 values of `released` left out)",
    ),
}


@pytest.mark.parametrize(("added", "expected"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_wrong_with_a_line_costs_the_line_or_the_value(
    tmp_path: Path, added: list[Any], expected: str
) -> None:
    path = write(tmp_path / "log.jsonl", clean() + added)
    lines, refused = said(path)
    assert expected in lines
    assert not refused


@pytest.mark.parametrize(("added", "expected"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_too_much_of_it_refuses_the_log(tmp_path: Path, added: list[Any], expected: str) -> None:
    """Where it is one of two, or of three."""
    path = write(tmp_path / "log.jsonl", [clean()[0], clean()[40], *added])
    with pytest.raises(EventLogError, match="more than the 5% allowed") as refusal:
        read_event_log(path, "log", schema())
    begins = expected[: expected.rindex(" (")].replace(f"LOG:{NEXT}", "LOG:3").replace("LOG:41", "LOG:2")
    assert begins in str(refusal.value).replace(str(path), "LOG")


READ = {
    "item twice": (
        [ranking("x", items=[{"id": "i0"}, {"id": "i1"}, {"id": "i0"}])],
        f"LOG:{NEXT}: item 'i0' is twice in the list; its first place counts (1 of 61 rankings)",
    ),
    "ranking written twice": (
        [clean()[40]],
        f"LOG:{NEXT}: ranking 'r0' is the same as at LOG:41, and counts once (1 of 61 rankings)",
    ),
    "float ids": ([click("r0", 1.0)], f"LOG:{NEXT}: `item` is the number 1.0, read as '1'"),
    "user null": (
        [ranking("x", user=None)],
        f"LOG:{NEXT}: `user` is null: a list of somebody unknown (1 of 61 rankings)",
    ),
    "user None": (
        [ranking("x", user="None")],
        f'LOG:{NEXT}: `user` is the text "None": a list of somebody unknown (1 of 61 rankings)',
    ),
    "seconds": ([ranking("x", timestamp=AT // 1000)], f"LOG:{NEXT}: timestamps are in seconds"),
    "text of seconds": ([ranking("x", timestamp=str(AT // 1000))], f"LOG:{NEXT}: timestamps are in seconds"),
    "microseconds": ([ranking("x", timestamp=AT * 1000)], f"LOG:{NEXT}: timestamps are in microseconds"),
    "nanoseconds": ([ranking("x", timestamp=AT * 10**6)], f"LOG:{NEXT}: timestamps are in nanoseconds"),
    "ISO 8601": (
        [ranking("x", timestamp="2021-11-15T19:17:42Z")],
        f"LOG:{NEXT}: timestamps are in ISO 8601",
    ),
    "no time zone": (
        [ranking("x", timestamp="2021-11-15T19:17:42")],
        f"LOG:{NEXT}: timestamp '2021-11-15T19:17:42' has no time zone, and is read as UTC",
    ),
    "no unix time": (
        [ranking("x", timestamp=12)],
        f"LOG:{NEXT}: timestamp 12 is before 1973, so no unix time; ages count from it (1 of 61 rankings)",
    ),
    "out of time": (
        [ranking("x", timestamp=START_MS)],
        f"LOG:{NEXT}: rankings do not stand in the order of time; they are read oldest first (1 of 61 "
        "rankings)",
    ),
    "before its list": (
        [click("r0", timestamp=START_MS - 1000)],
        f"LOG:{NEXT}: interaction before its list, ranking 'r0' at LOG:41 (1 of 61 interactions)",
    ),
    "fields as an object": (
        [ranking("x", fields={"device": "ios"})],
        f'LOG:{NEXT}: `fields` is an object, which is read as [{{"name": ..., "value": ...}}]',
    ),
    "items as plain ids": (
        [ranking("x", items=["i0", "i1", "i2"])],
        f'LOG:{NEXT}: `items` has plain ids, which are read as {{"id": ...}} (3 times)',
    ),
    "list in a text": (
        [item("x", genres="a, b")],
        f'LOG:{NEXT}: `genres`: one text, "a, b", where a list is meant; write it as a list, or declare '
        "the field "
        "categorical (`,` between values) (1 of 41 values of `genres`)",
    ),
    "longer than is read": (
        [item("x", genres=list("abcdefghij"))],
        f"LOG:{NEXT}: `genres`: 10 values, the first 8 are read (max_values) (1 of 41 values of `genres`)",
    ),
    "NaN": (
        [item("x", price=float("nan"))],
        f"LOG:{NEXT}: `price` is a number that is not finite, which counts as missing",
    ),
    "feature of an interaction": (
        [click("r0", fields=fields(dwell=3.5, price=2, page=None))],
        f"LOG:{NEXT}: `dwell` came with an interaction, and is not read: fields are of items, users and "
        "lists (1 of 61 interactions)",
    ),
    "feature of a past event": (
        [ranking("x", history=[{"item": "i7", "type": "click", "features": {"mood": "m"}}] * 2)],
        f"LOG:{NEXT}: `mood` came with an event of `history`, and is not read: fields are of items, users "
        "and lists (2 times)",
    ),
    "scores that are not read": (
        [
            ranking("x", items=[{"id": f"i{n}", "fields": fields(relevancy=n)} for n in range(3)]),
            click("x"),
        ],
        "`relevancy` comes with 1 of 61 lists and is not read: set features.initial_score = true",
    ),
}


@pytest.mark.parametrize(("added", "expected"), READ.values(), ids=READ)
def test_what_can_be_read_all_the_same_is_told(tmp_path: Path, added: list[Any], expected: str) -> None:
    lines, refused = said(write(tmp_path / "log.jsonl", clean() + added))
    assert expected in lines
    assert not refused


def _gz(events: list[Any]) -> bytes:
    return gzip.compress(text(events).encode())


FILES: dict[str, tuple[str, Callable[[], bytes], str, bool]] = {
    "byte order mark": (
        "log.jsonl",
        lambda: text(clean()).encode("utf-8-sig"),
        "LOG: begins with a byte order mark",
        False,
    ),
    "UTF-16": (
        "log.jsonl",
        lambda: text(clean()).encode("utf-16"),
        "LOG: written in UTF-16, not UTF-8",
        False,
    ),
    "UTF-16 without a mark": (
        "log.jsonl",
        lambda: text(clean()).encode("utf-16-le"),
        "LOG: written in UTF-16-LE, not UTF-8",
        False,
    ),
    "Latin-1": (
        "log.jsonl",
        lambda: json.dumps(item("x", title="café"), ensure_ascii=False).encode("latin-1"),
        "LOG:1: byte 0xe9 is no UTF-8. Windows or Latin-1 text? Write it again in UTF-8: iconv -f "
        "latin1 -t utf-8",
        True,
    ),
    "gzip cut off": (
        "log.jsonl.gz",
        lambda: _gz(clean())[:-20],
        "gzip is cut off or damaged here, and what follows is lost: Compressed file ended before the "
        "end-of-stream marker was reached",
        True,
    ),
    "gzip under another name": ("log.jsonl", lambda: _gz(clean()), "LOG: gzip under another name", False),
    "plain text named .gz": (
        "log.jsonl.gz",
        lambda: text(clean()).encode(),
        "LOG: plain text, though its name ends in .gz",
        False,
    ),
    "Parquet": (
        "log.jsonl",
        lambda: b"PAR1....PAR1",
        "LOG row 0: damaged here, and what follows is lost: ",
        True,
    ),
    "zip": ("log.jsonl", lambda: b"PK\x03\x04....", "LOG: this is a zip archive: unpack it", True),
    "empty": ("log.jsonl", lambda: b"", "LOG: there is nothing in it", True),
    "an array": (
        "log.jsonl",
        lambda: json.dumps([item(1)], indent=1).encode(),
        "LOG:1: not JSON: Expecting value, column 2; one object a line is wanted: jq -c '.[]' writes an "
        "array so "
        "(",
        True,
    ),
}


@pytest.mark.parametrize(("name", "content", "expected", "is_refused"), FILES.values(), ids=FILES)
def test_what_a_file_is_is_seen_from_its_bytes(
    tmp_path: Path, name: str, content: Callable[[], bytes], expected: str, is_refused: bool
) -> None:
    path = tmp_path / name
    path.write_bytes(content())
    lines, refused = said(path)
    assert any(expected in line for line in (refused if is_refused else lines))
    assert bool(refused) == is_refused
    if not is_refused:
        assert slates(read(path)).keys() == slates(read(write(tmp_path / "same", clean()))).keys()


def newest_first() -> list[Any]:
    """The clean log with its lists turned round."""
    events = clean()
    pairs = [events[n : n + 2] for n in range(40, len(events), 2)]
    return events[:40] + [event for pair in reversed(pairs) for event in pair]


WHOLE: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "one list": (
        clean()[:42],
        {},
        "validation: no list; 1 people with usable lists are too few to split by person into 70 % training, "
        "10 % validation, 20 % test",
    ),
    "five people": (
        clean()[:40] + clean()[46:56],
        {},
        "validation: no list; 5 people",
    ),
    "positives of another type": (
        [{**event, "type": "like"} if event["event"] == "interaction" else event for event in clean()],
        {},
        "positive_types: no interaction is click; there are: like 60",
    ),
    "a field of another name": (
        clean(),
        {"fields": [*schema().model_dump()["fields"], {"name": "prize", "kind": "numeric"}]},
        "`prize`: 0 of 40 items",
    ),
    "a field misspelt": (
        clean(),
        {"fields": [{"name": "genrse", "kind": "multivalued"}]},
        "`genrse`: 0 of 40 items; did you mean `genres`?",
    ),
    "a field of another scope": (
        clean(),
        {"fields": [{"name": "price", "kind": "numeric"}, {"name": "device", "kind": "categorical"}]},
        '`device`: 0 of 40 items; 60 of 60 lists have it: set scope = "context"',
    ),
    "items of other ids": (
        [{**event, "item": f"{event['item']}.0"} if event["event"] == "item" else event for event in clean()],
        {},
        "none of the 40 items in lists has a line of its own: lists have ids such as 'i0', lines such "
        "as 'i0.0'",
    ),
    "an initial score without scores": (
        clean(),
        {"initial_score": True},
        "features.initial_score: no list has scores; give the items of rankings `relevancy`, or make "
        "some with "
        "`python -m model.first_stage`",
    ),
    "another kind throughout": (
        clean(),
        {"fields": [{"name": "maker", "kind": "numeric"}]},
        'LOG:1: `maker`: expected a number (numeric), got the text "a"; words are kind `categorical`, a '
        "text's "
        "length is `text_length` (40 of 40 values of `maker`, more than the 5% allowed)",
    ),
    "lists in texts throughout": (
        [item(n, genres="a, b") for n in range(40)] + clean()[40:],
        {},
        'LOG:1: `genres`: one text, "a, b", where a list is meant; write it as a list, or declare the field '
        "categorical (`,` between values) (40 of 40 values of `genres`, more than the 5% allowed)",
    ),
    "numbers for words throughout": (
        [item(n, maker=n + 0.25) for n in range(40)] + clean()[40:],
        {},
        "`maker` is categorical and has 40 different numbers with fractions; did you mean kind `numeric`?",
    ),
    "ages in two units": (
        [item(n, released=1.5e9 * (1000 if n % 2 else 1)) for n in range(40)] + clean()[40:],
        {},
        "LOG:1: `released` is in seconds, and some of it in milliseconds (20 of 40 values of "
        "`released`, more than "
        "the 5% allowed)",
    ),
}


@pytest.mark.parametrize(("events", "changes", "expected"), WHOLE.values(), ids=WHOLE)
def test_what_makes_training_wrong_refuses_the_log(
    tmp_path: Path, events: list[Any], changes: dict[str, Any], expected: str
) -> None:
    _, refused = said(write(tmp_path / "log.jsonl", events), **changes)
    assert any(line.startswith(expected) for line in refused), refused


def test_a_log_newest_first_is_read_oldest_first(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", newest_first())
    lines, _ = said(path)
    assert "LOG:43: rankings stand newest first; they are read oldest first (59 of 60 rankings)" in lines
    same, other = slates(read(path)), slates(read(write(tmp_path / "same", clean())))
    assert str([same[name] for name in other]) == str(list(other.values()))
    assert same["r0"].user.history == ()
    assert [event.item_id for event in same["r30"].user.history] == ["i0", "i1", "i2", "i3", "i4", "i1"]


def test_lists_at_the_same_time_are_not_each_others_history(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [*clean(), ranking("x", timestamp=START_MS), click("x")])
    assert slates(read(path))["x"].user.history == ()


def test_nor_are_they_if_the_first_of_them_says_its_own_history(tmp_path: Path) -> None:
    at = START_MS - 1000
    own = [{"item": "i9", "type": "click"}]
    lists = [ranking("x", timestamp=at, history=own), click("x"), ranking("y", timestamp=at), click("y")]
    found = slates(read(write(tmp_path / "log.jsonl", [*clean(), *lists])))
    assert [event.item_id for event in found["x"].user.history] == ["i9"]
    assert found["y"].user.history == ()


@pytest.mark.parametrize("unit", [1e-3, 1, 1e3, 1e6])
def test_times_are_the_same_in_every_unit(tmp_path: Path, unit: float) -> None:
    events = [item(1, released=1.5e12 * unit), ranking("r", timestamp=AT * unit), click("r")]
    dataset = read(write(tmp_path / "log.jsonl", events))
    assert slates(dataset)["r"].timestamp == pytest.approx(AT / 1000, abs=1e-3)
    assert dataset.items["i1"]["released"] == pytest.approx(1.5e9, abs=1e-3)


def test_dates_are_ages(tmp_path: Path) -> None:
    events = [item(1, released="2017-07-14T02:40:00Z"), ranking("r"), click("r")]
    assert read(write(tmp_path / "log.jsonl", events)).items["i1"]["released"] == 1.5e9


def test_a_value_of_another_kind_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    events = [*clean(), item("x", price="cheap"), item("y", price=float("inf"))]
    items = read(write(tmp_path / "log.jsonl", events)).items
    assert "price" not in items["ix"]
    assert "price" not in items["iy"]
    assert items["ix"]["genres"] == items["iy"]["genres"] == ["x", "y"]


def test_nobody_is_not_somebody(tmp_path: Path) -> None:
    """Anonymous lists have no history and none in common, whatever their ids are."""
    added = [ranking("u1", user=None), click("u1"), ranking("y", user="None", timestamp=AT + 1), click("y")]
    dataset = read(write(tmp_path / "log.jsonl", clean() + added))
    one, other = slates(dataset)["u1"], slates(dataset)["y"]
    assert one.anonymous
    assert other.anonymous
    assert len({one.user_id, other.user_id, "u1", "None"}) == 4
    assert one.user.history == other.user.history == ()


@pytest.mark.parametrize("user", [None, "busy"])
def test_memory_grows_with_the_log_not_with_its_square(tmp_path: Path, user: str | None) -> None:
    """2,000 lists of one person: copies of all histories would be 80 MB."""
    events: list[Any] = [item(number) for number in range(5)]
    for number in range(2000):
        shown = [{"id": f"i{place}"} for place in range(5)]
        events.append(ranking(f"r{number}", user=user, timestamp=AT + 1000 * number, items=shown))
        events.append(click(f"r{number}"))
    path = write(tmp_path / "log.jsonl", events)
    tracemalloc.start()
    dataset = read(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30e6
    past = slates(dataset)["r1999"].user.history
    assert len(past) == (0 if user is None else MOST_PAST)
    if user:  # six events a list, of 1,999 lists, and the earliest 1,994 are left out
        assert (past[0].item_id, past[-1].type, past[1:3][0].item_id) == ("i2", "click", "i3")
