"""Tables become a log: lists of their rows, and what is wrong with a row is told with its line."""

import gzip
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from bundle.features.schema import FeatureSchema
from model.data import __main__ as command
from model.data.convert import convert
from model.data.event_log import read_event_log
from model.data.findings import EventLogError
from model.data.location import DataUnavailableError
from model.data.schema_proposal import propose
from model.data.slate import SPLITS, LoggedSlate
from model.data.toml_file import ConfigError

MAPPING = """
[impressions]
file = "shown.csv"
list = "request"
user = "person"
item = "film"
timestamp = "at"
position = "place"
score = "score"
outcomes = { clicked = "click", bought = "buy" }
context = ["device"]
features = ["price"]

[items]
file = "films.csv"
id = "film"
lists = { genres = "|", look = ";" }

[users]
file = "people.csv"
id = "person"
fields = ["age"]
"""
SHOWN = """request,person,film,at,place,score,clicked,bought,device,price
r2,ann,f2,2021-11-15T16:40:00Z,1,0.5,1,1,ios,2.5
r1,ann,f1,1636993862,2,0.25,0,0,web,1
r1,ann,f2,1636993861,1,0.75,1,0,web,3
r3,,f1,1636993999,1,,true,false,web,
r3,,f3,1636993999,2,,false,false,web,7
r2,ann,f3,2021-11-15T16:40:01Z,2,0.1,0,0,ios,2
"""
FILMS = """film;year;genres;code;title;look;tags
f1;1999;a|b;007;"One; or, two";0.5;["x", "y"]
f2;2001;a;010;Two;0.25;
f3;;;100;"In
two lines";1.0;["z"]
"""
PEOPLE = "person\tage\tnote\nann\t33\tx\n"
FEATURES = FeatureSchema.model_validate({"fields": [{"name": "year", "kind": "numeric"}]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (("map.toml", MAPPING), ("shown.csv", SHOWN), ("people.csv", PEOPLE)):
        (tmp_path / name).write_text(content)
    (tmp_path / "films.csv").write_text(FILMS)
    return tmp_path


def lines(folder: Path) -> list[dict[str, Any]]:
    convert(folder / "map.toml", folder / "log.jsonl")
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def fields_of(event: dict[str, Any]) -> dict[str, Any]:
    return {field["name"]: field["value"] for field in event["fields"]}


def slates(log: Path) -> dict[str, LoggedSlate]:
    dataset = read_event_log(log, "log", FEATURES)
    return {slate.request_id: slate for split in SPLITS for slate in dataset.slates[split]}


def test_rows_become_lists(folder: Path) -> None:
    rankings = {event["id"]: event for event in lines(folder) if event["event"] == "ranking"}
    assert list(rankings) == ["r1", "r3", "r2"], "by time"
    first, second, third = rankings["r1"], rankings["r2"], rankings["r3"]
    assert [item["id"] for item in first["items"]] == ["f2", "f1"], "by position"
    assert (first["user"], second["user"], third["user"]) == ("ann", "ann", None)
    assert first["timestamp"] == 1636993861
    assert second["timestamp"] == datetime(2021, 11, 15, 16, 40, tzinfo=UTC).timestamp()
    assert fields_of(first) == {"device": "web"}
    assert fields_of(first["items"][0]) == {"price": 3.0, "relevancy": 0.75}
    assert fields_of(third["items"][0]) == {}


def test_what_was_done_becomes_interactions(folder: Path) -> None:
    done = [event for event in lines(folder) if event["event"] == "interaction"]
    assert [(event["ranking"], event["item"], event["type"]) for event in done] == [
        ("r1", "f2", "click"),
        ("r3", "f1", "click"),
        ("r2", "f2", "click"),
        ("r2", "f2", "buy"),
    ]


def test_columns_have_the_types_that_they_look_like(folder: Path) -> None:
    found = lines(folder)
    films = {event["item"]: fields_of(event) for event in found if event["event"] == "item"}
    assert films == {
        "f1": {
            "year": 1999,
            "genres": ["a", "b"],
            "code": "007",
            "title": "One; or, two",
            "look": [0.5],
            "tags": ["x", "y"],
        },
        "f2": {"year": 2001, "genres": ["a"], "code": "010", "title": "Two", "look": [0.25]},
        "f3": {"code": "100", "title": "In\ntwo lines", "look": [1.0], "tags": ["z"]},
    }
    assert [fields_of(event) for event in found if event["event"] == "user"] == [{"age": 33}]


def test_the_log_can_be_read(folder: Path) -> None:
    lines(folder)
    found = slates(folder / "log.jsonl")
    assert found["r1"].labels.tolist() == [1, 0]
    assert found["r1"].scores == (0.75, 0.25)
    assert found["r3"].anonymous
    assert [event.item_id for event in found["r2"].user.history] == ["f2", "f1", "f2"]


def test_rows_without_a_list_are_what_a_user_was_shown_in_one_go(folder: Path) -> None:
    text = MAPPING.replace('list = "request"\n', "").replace('position = "place"\n', "")
    (folder / "map.toml").write_text(text.replace("[items]", "gap_s = 60\n\n[items]"))
    rows = [
        "ann,f1,1000,0",
        "ann,f2,1010,1",
        "bob,f1,1011,0",
        "ann,f1,1050,1",
        "ann,f3,1110,0",
        "ann,f2,1160,1",
    ]
    header = "person,film,at,clicked,bought,device,price,score\n"
    (folder / "shown.csv").write_text(header + "".join(f"{row},0,web,,\n" for row in rows))
    events = lines(folder)
    lists = {e["id"]: [item["id"] for item in e["items"]] for e in events if e["event"] == "ranking"}
    assert lists == {"ann-1": ["f1", "f2"], "bob-1": ["f1"], "ann-2": ["f3", "f2"]}
    done = [(e["ranking"], e["item"]) for e in events if e["event"] == "interaction"]
    assert sorted(done) == [("ann-1", "f1"), ("ann-1", "f2"), ("ann-2", "f2")]
    again = f"{folder / 'shown.csv'}:5: `f1` again in its list, where an item, and what was done, counts once"
    assert str(convert(folder / "map.toml", folder / "log.jsonl")).splitlines() == [
        "3 items, 1 users, 3 rankings, 3 interactions",
        "  lists of 1 to 2 items, 2 in the median, 33% of one",
        "  1 of 3 lists teach something, with outcomes of some of their items, and not of all",
        "  gap_s = 600 would give 2 lists, 50% of one item, and 1 that teach something",
        "  gap_s = 3600 would give 2 lists, 50% of one item, and 1 that teach something",
        "  gap_s = 86400 would give 2 lists, 50% of one item, and 1 that teach something",
        f"  {again} (1 of 6 rows of impressions)",
    ]


def test_outcomes_that_are_merged_and_times_of_no_zone_are_told(folder: Path) -> None:
    (folder / "map.toml").write_text(MAPPING.replace('list = "request"\n', ""))
    rows = ["ann,f1,2021-11-15 16:40:00,1", "ann,f1,2021-11-15 16:40:09,1", "ann,f2,2021-11-15T16:41:00Z,0"]
    header = "person,film,at,clicked,bought,device,price,score,place\n"
    (folder / "shown.csv").write_text(header + "".join(f"{row},0,web,,,1\n" for row in rows))
    told = str(convert(folder / "map.toml", folder / "log.jsonl")).splitlines()
    assert "  click: 1 interactions of 2 rows" in told
    zone = (
        f"  {folder / 'shown.csv'}:2: `at` says no time zone, and is read as UTC (2 of 3 rows of impressions)"
    )
    assert zone in told


def test_interactions_may_have_a_table_of_their_own(folder: Path) -> None:
    text = MAPPING.replace('outcomes = { clicked = "click", bought = "buy" }\n', "")
    table = '[interactions]\nfile = "done*.csv"\nlist = "request"\nitem = "film"\ntype_column = "what"\n'
    (folder / "map.toml").write_text(text + table + 'timestamp = "at"\n')
    (folder / "done1.csv").write_text("request|film|what|at\nr1|f1|like|1636993870000\n")
    (folder / "done2.csv").write_bytes(gzip.compress(b"request|film|what|at\nr2|f2|click|\n"))
    done = [event for event in lines(folder) if event["event"] == "interaction"]
    assert done == [
        {"event": "interaction", "ranking": "r1", "item": "f1", "type": "like", "timestamp": 1636993870.0},
        {"event": "interaction", "ranking": "r2", "item": "f2", "type": "click"},
    ]


def test_parquet_is_as_good_as_csv(folder: Path) -> None:
    expected = lines(folder)
    columns: dict[str, list[Any]] = {name: [] for name in SHOWN.splitlines()[0].split(",")}
    for row in SHOWN.splitlines()[1:]:
        for name, cell in zip(columns, row.split(","), strict=True):
            columns[name].append(cell or None)
    columns["at"] = [
        datetime.fromisoformat(cell) if "T" in cell else datetime.fromtimestamp(int(cell), UTC)
        for cell in columns["at"]
    ]
    for name, kind in (("place", int), ("score", float), ("price", float)):
        columns[name] = [None if cell is None else kind(cell) for cell in columns[name]]
    for name in ("clicked", "bought"):
        columns[name] = [cell in ("1", "true") for cell in columns[name]]
    parquet.write_table(pyarrow.table(columns), folder / "shown.csv", row_group_size=2)
    assert lines(folder) == expected


ROWS: dict[str, tuple[str, str]] = {
    "another length": ("r9,ann,f1", "LINE: 3 values, the header has 10 names"),
    "no list": (",ann,f1,1636993862,1,,0,0,web,", "LINE: no `request`"),
    "no item": ("r9,ann,,1636993862,1,,0,0,web,", "LINE: no `film`"),
    "no time": ("r9,ann,f1,soon,1,,0,0,web,", "LINE: `at`: expected unix time or ISO 8601, got 'soon'"),
    "a place in words": ("r9,ann,f1,1636993862,top,,0,0,web,", "LINE: `place`: expected a number, got 'top'"),
    "an outcome in words": (
        "r9,ann,f1,1636993862,1,,maybe,0,web,",
        "LINE: `clicked`: expected 0 or 1, got 'maybe'",
    ),
    "no finite number": (
        "r9,ann,f1,1636993862,1,1e999,0,0,web,",
        "LINE: `score`: expected a number, got '1e999'",
    ),
    "two users": (
        "r1,bob,f1,1636993862,1,,0,0,web,",
        "LINE: list 'r1' is of user 'ann', and here of 'bob'",
    ),
}


@pytest.mark.parametrize(("row", "expected"), ROWS.values(), ids=ROWS)
def test_a_row_that_cannot_be_read_is_told_by_its_line(folder: Path, row: str, expected: str) -> None:
    table = folder / "shown.csv"
    where = expected.replace("LINE", f"{table}:8")
    table.write_text(f"{SHOWN}{row}\n")
    with pytest.raises(EventLogError, match="more than the 5% allowed") as refusal:
        convert(folder / "map.toml", folder / "log.jsonl")
    assert str(refusal.value).startswith(where)
    assert {path.name for path in folder.iterdir()} == {"map.toml", "shown.csv", "films.csv", "people.csv"}
    many = "".join(f"r{n},u{n},f1,1636993862,1,,0,0,web,\n" for n in range(100, 200))
    table.write_text(f"{SHOWN}{row}\n{many}")
    told = str(convert(folder / "map.toml", folder / "log.jsonl"))
    assert f"{where} (1 of 107 rows of impressions left out)" in told


MAPPINGS: dict[str, tuple[Callable[[str], str], type[Exception], str]] = {
    "a column": (
        lambda text: text.replace('"film"', '"fim"', 1),
        ConfigError,
        "impressions: FOLDER/shown.csv has no column `fim`; did you mean `film`?",
    ),
    "a column of items": (
        lambda text: text.replace("genres =", "kind ="),
        ConfigError,
        "items: FOLDER/films.csv has no column `kind`; there are film, year, genres, code, title, look, tags",
    ),
    "a table": (
        lambda text: text.replace("people.csv", "persons.csv"),
        DataUnavailableError,
        "FOLDER/persons.csv: no such file (users.file)",
    ),
    "a key": (
        lambda text: text.replace("score =", "scores ="),
        ConfigError,
        "FOLDER/map.toml:9: impressions.scores: unknown key; did you mean `score`?",
    ),
    "nothing that was liked": (
        lambda text: text.replace('outcomes = { clicked = "click", bought = "buy" }\n', ""),
        ConfigError,
        "FOLDER/map.toml: impressions.outcomes or a table of interactions is needed, to tell what was liked",
    ),
}


@pytest.mark.parametrize(("change", "error", "expected"), MAPPINGS.values(), ids=MAPPINGS)
def test_a_mistake_in_the_mapping_is_one_line(
    folder: Path, change: Callable[[str], str], error: type[Exception], expected: str
) -> None:
    (folder / "map.toml").write_text(change(MAPPING))
    with pytest.raises(error) as mistake:
        convert(folder / "map.toml", folder / "log.jsonl")
    assert str(mistake.value).replace(str(folder), "FOLDER") == expected


def test_a_file_is_found_wherever_it_is(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """By its whole path too, and whatever the mapping's folder is called."""
    odd = tmp_path_factory.mktemp("of") / "films [2021]"
    folder.rename(odd)
    mapping = MAPPING.replace("people.csv", f"{odd}/people.csv".replace("[", "[[]"))
    (odd / "map.toml").write_text(mapping)
    assert "1 users, 3 rankings" in str(convert(odd / "map.toml", odd / "log.jsonl"))


@pytest.mark.parametrize(
    ("name", "header", "expected"),
    [
        ("shown.csv", SHOWN.replace("device,price", "price,price"), "has more than one column `price`"),
        ("shown2.csv", SHOWN.replace("clicked", "klicked"), "shown2.csv has no column `clicked`, which"),
    ],
)
def test_a_column_that_is_there_twice_or_not_in_every_file_is_told(
    folder: Path, name: str, header: str, expected: str
) -> None:
    (folder / name).write_text(header)
    mapping = MAPPING.replace("shown.csv", "shown*.csv").replace('context = ["device"]', "")
    (folder / "map.toml").write_text(mapping)
    with pytest.raises(ConfigError, match=re.escape(expected)):
        convert(folder / "map.toml", folder / "log.jsonl")


@pytest.mark.parametrize("cell", ["[" * 5000, '"[1, NaN]"', '"[1e999, 2]"'], ids=["deep", "NaN", "infinite"])
def test_what_looks_like_a_list_of_json_breaks_nothing(folder: Path, cell: str) -> None:
    films = (folder / "films.csv").read_text()
    (folder / "films.csv").write_text(f"{films}f4;1;;1;Four;;{cell}\n")
    assert str(convert(folder / "map.toml", folder / "log.jsonl")).startswith("4 items")
    read_event_log(folder / "log.jsonl", "log")


def test_the_command_says_what_it_wrote(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, proposal = folder / "log.jsonl.gz", folder / "my.toml"
    arguments = ["convert", str(folder / "map.toml"), "--out", str(log), "--schema", str(proposal)]
    monkeypatch.setattr(sys, "argv", ["model.data", *arguments])
    command.main()
    assert "3 items, 1 users, 3 rankings, 4 interactions" in " ".join(capsys.readouterr().out.split())
    assert proposal.read_text() == propose(log)
    assert slates(folder / "log.jsonl.gz").keys() == {"r1", "r2", "r3"}
