"""A log as Parquet says what its JSON lines say, its dirt included, and trains the same weights."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own_log import run, write_config, write_log
from small_log import LISTS, START_MS, clean, click, fields, item, ranking, schema, write

from bundle.manifest import POLICY
from model import train
from model.data.__main__ import main
from model.data.check import check
from model.data.event_log import dataset_of
from model.data.findings import EventLogError, Findings
from model.data.location import DataUnavailableError, locate
from model.data.log_lines import read_values
from model.data.parquet_log import write_rows
from model.data.ranklens import EVENTS
from model.data.slate import SPLITS, Dataset

CONFIGS = Path(__file__).parents[3] / "configs"
LATER = START_MS + 10_000_000


def read(path: Path) -> Dataset:
    found = Findings()
    return dataset_of(read_values(path, found), "log", found, schema())


def packed(log: Path, out: Path) -> Path:
    write_rows(read_values(log, Findings()), out)
    return out


def said(dataset: Dataset) -> list[tuple[str, str, int, bool]]:
    report, _ = check(dataset, schema())
    return sorted((one.kind, one.effect, one.count, one.refused) for one in report.findings)


def test_the_lists_are_the_same(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", clean())
    lines, rows = read(log), read(packed(log, tmp_path / "log"))
    assert rows.items == lines.items
    assert list(rows.items) == list(lines.items)
    assert list(rows.positives) == list(lines.positives)
    assert rows.people == lines.people
    for split in SPLITS:
        assert len(rows.slates[split]) == len(lines.slates[split])
        for row, line in zip(rows.slates[split], lines.slates[split], strict=True):
            assert (row.request_id, row.candidates, row.timestamp) == (
                line.request_id,
                line.candidates,
                line.timestamp,
            )
            assert (row.user, row.context, row.scores) == (line.user, line.context, line.scores)
            np.testing.assert_array_equal(row.labels, line.labels)


def test_it_lies_by_kind_and_day(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [*clean(), ranking("late", timestamp="2021-12-24T12:00:00Z")])
    out = packed(log, tmp_path / "log")
    days = {path.relative_to(out).parent.as_posix() for path in out.rglob("*.parquet")}
    assert days == {
        "event=item",
        "event=ranking/day=2021-11-15",
        "event=ranking/day=2021-12-24",
        "event=interaction/day=2021-11-15",
    }


DIRT: dict[str, list[dict[str, Any]]] = {
    "list without items": [ranking("x", items=[])],
    "missing key": [{"event": "interaction", "ranking": "r1", "type": "click", "timestamp": LATER}],
    "id of another type": [click("r1", "", timestamp=LATER)],
    "timestamp": [click("r1", timestamp=-5)],
    "shown": [ranking("x", shown=[7])],
    "propensity": [ranking("x", propensity=[0.5, 0.5, 1.5])],
    "ranking id used again": [ranking("x"), ranking("x", user="u9")],
    "ranking written twice": [ranking("x"), ranking("x")],
    "item twice": [ranking("x", items=[{"id": "i1"}, {"id": "i1"}])],
    "interaction without its list": [click("nowhere", timestamp=LATER)],
    "item not shown": [click("r1", "i30", timestamp=LATER)],
    "value of another kind": [item("new", look=[0.5])],
    "number that is not finite": [item("new", price=float("nan"))],
    "anonymous list": [ranking("x", user=None)],
    "order of time": [ranking("x", timestamp=START_MS - 1)],
    "early timestamp": [ranking("x", timestamp=1_000)],
    "interaction too early": [click("r1", "i2", timestamp=START_MS - 60_000)],
}


@pytest.mark.parametrize("kind", DIRT)
def test_dirt_is_counted_as_in_lines(kind: str, tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [*clean(), *DIRT[kind]])
    lines, rows = read(log), read(packed(log, tmp_path / "log"))
    assert kind in {one[0] for one in said(rows)}
    by_day = {"order of time"} - {kind}  # days are read in their order
    assert not {one for one in said(rows) if one[0] not in by_day} ^ {
        one for one in said(lines) if one[0] not in by_day
    }
    assert rows.findings is not None
    (found,) = (one for one in rows.findings if one.kind == kind)
    assert ".parquet row " in found.first


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "nothing": (lambda path: path.write_bytes(b""), "empty file", ""),
    "a footer that is none": (lambda path: path.write_bytes(b"PAR1....PAR1"), "damaged Parquet", " row 0"),
    "bytes": (lambda path: write_table(path, raw=pa.array([b"x"])), "column of another type", ""),
    "two columns of a name": (
        lambda path: pq.write_table(pa.table([["x"], ["y"]], names=["id", "id"]), path),
        "column of another type",
        "",
    ),
    "ids that are not what they were": (
        lambda path: write_table(path, id=pa.array([10**19] * 9, pa.decimal128(38, 0)), user=pa.nulls(9)),
        "id of another type",
        " row 0",
    ),
    "no UTF-8": (
        lambda path: write_table(path, id=pa.array([b"\xff"]).view(pa.string())),
        "encoding",
        " row 0",
    ),
}


def write_table(path: Path, **columns: pa.Array) -> None:
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize(("make", "kind", "place"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_read_refuses_the_log(
    make: Callable[[Path], object], kind: str, place: str, tmp_path: Path
) -> None:
    out = packed(write(tmp_path / "log.jsonl", clean()), tmp_path / "log")
    path = out / "event=ranking" / "day=2021-11-15" / "000009.parquet"
    make(path)
    found = read(out).findings
    assert found is not None
    (one,) = (finding for finding in found if found.refuses(finding))
    assert one.kind == kind
    assert one.first == f"{path}{place}"


def test_times_are_timestamps_too(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", clean())
    out = packed(log, tmp_path / "log")
    for path in (out / "event=ranking").rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        place = table.schema.get_field_index("timestamp")
        at = table.column("timestamp").cast(pa.timestamp("ms")).cast(pa.timestamp("us"))
        pq.write_table(table.set_column(place, "timestamp", at), path)
    lines, rows = read(log), read(out)
    assert [one.timestamp for one in rows.slates["train"]] == [one.timestamp for one in lines.slates["train"]]
    assert "time zone" in {one[0] for one in said(rows)}


def test_what_is_no_file_of_the_log_is_not_read(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", clean())
    out = packed(log, tmp_path / "log")
    expected = said(read(out))
    day = out / "event=ranking" / "day=2021-11-15"
    for folder in (day / "part.parquet", out / "_temporary", out / ".backup"):
        folder.mkdir()
    for folder in (out / "_temporary", out / ".backup"):
        (folder / "0.parquet").write_bytes(b"PAR1")
    (day / "000000.parquet").rename(day / "part.parquet" / "000000.parquet")
    assert said(read(out)) == expected


def test_lines_beside_parquet_are_told(tmp_path: Path) -> None:
    out = packed(write(tmp_path / "log.jsonl", clean()), tmp_path / "log")
    write(out / "more.jsonl", [item("x")])
    dataset = read(out)
    assert ("lines beside Parquet", "suspect", 1, False) in said(dataset)
    assert "ix" not in dataset.items


def test_a_null_in_a_list_of_fields_costs_nothing_but_itself(tmp_path: Path) -> None:
    out = packed(write(tmp_path / "log.jsonl", clean()), tmp_path / "log")
    told = fields(price=2.5, weight=None)
    write_table(out / "event=item" / "1.parquet", item=pa.array(["x"]), fields=pa.array([told]))
    assert read(out).items["x"] == {"price": 2.5, "weight": None}


def test_a_directory_without_a_log_is_told(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.toml")
    (tmp_path / "log").mkdir()
    with pytest.raises(SystemExit, match=r"log: no \*\.parquet, \*\.jsonl or \*\.jsonl\.gz here$"):
        run(main, "check", "--config", config, "--event-log", tmp_path / "log")


def test_lists_of_nobody_alone_are_still_lists(tmp_path: Path) -> None:
    nobody = [{**event, "user": None} if event["event"] == "ranking" else event for event in clean()]
    dataset = read(packed(write(tmp_path / "log.jsonl", nobody), tmp_path / "log"))
    assert sum(len(dataset.slates[split]) for split in SPLITS) == LISTS
    assert all(slate.anonymous for split in SPLITS for slate in dataset.slates[split])


@pytest.mark.parametrize("others", [[], [ranking("y", user="u9", profile=fields(age=5))]])
def test_a_profile_known_to_be_empty_stays_so(others: list[Any], tmp_path: Path) -> None:
    user = {"event": "user", "user": "u9", "fields": fields(age=33)}
    lists = [ranking("x", user="u9", profile=[]), click("x"), *others, ranking("z", user="u9"), click("z")]
    dataset = read(packed(write(tmp_path / "log.jsonl", [user, *lists]), tmp_path / "log"))
    profiles = {one.request_id: one.user.profile for split in SPLITS for one in dataset.slates[split]}
    assert profiles == {"x": {}, "z": {"age": 33}}


@pytest.mark.parametrize("wrong", [[{"value": 1}], [3], [{"name": ["price"], "value": 1}]])
def test_fields_that_are_none_are_told_with_their_line(wrong: list[Any], tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [item(1), {"event": "item", "item": "x", "fields": wrong}])
    with pytest.raises(EventLogError, match=r"log\.jsonl:2: expected fields with a `name` and a `value`$"):
        packed(log, tmp_path / "log")


def test_values_that_are_no_column_are_told_with_their_lines(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [item(1), item(2, price={})])
    with pytest.raises(
        EventLogError, match=r"log\.jsonl:1 to .*log\.jsonl:2: values of one key are no column"
    ):
        packed(log, tmp_path / "log")


def test_lists_are_simulated_into_any_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "[" / "x]"
    assert run(main, "simulate", "--lists", 3, "--out", out) == f"{out}: 3 lists"
    assert len([one for one in read_values(out, Findings()) if one[1]["event"] == "ranking"]) == 3
    with pytest.raises(SystemExit, match="2"):
        run(main, "simulate", "--lists", 0, "--out", tmp_path / "none")
    assert "--lists: expected at least 1, got 0" in capsys.readouterr().err


SHORT = """
[evaluator]
epochs = 1
context = false
largest_calibration_error = 1e-9

[supervised]
epochs = 1
"""


def weights(run_directory: Path) -> str:
    return hashlib.sha256((run_directory / POLICY).read_bytes()).hexdigest()


def trained(config: Path, log: Path, folder: Path) -> str:
    run(train.main, "--config", config, "--event-log", log, "--run", folder)
    return weights(folder)


def test_weights_are_the_same(tmp_path: Path) -> None:
    log, config = write_log(tmp_path / "log.jsonl"), write_config(tmp_path / "config.toml")
    run(main, "parquet", log, "--out", tmp_path / "log")
    expected = trained(config, log, tmp_path / "lines")
    assert trained(config, tmp_path / "log", tmp_path / "rows") == expected


def test_records_without_fields_are_written(tmp_path: Path) -> None:
    bare = [{**event, "fields": []} if event["event"] == "ranking" else event for event in clean()]
    for event in bare:
        if event["event"] == "ranking":
            event["items"] = [{"id": item["id"], "fields": []} for item in event["items"]]
    log = write(tmp_path / "log.jsonl", bare)
    lines, rows = read(log), read(packed(log, tmp_path / "log"))
    assert [one.candidates for one in rows.slates["train"]] == [
        one.candidates for one in lines.slates["train"]
    ]
    assert said(rows) == said(lines)


@pytest.mark.slow
def test_weights_of_ranklens_are_the_same(tmp_path: Path) -> None:
    try:
        log = locate(EVENTS)
    except DataUnavailableError as error:
        pytest.skip(str(error))
    config = tmp_path / "config.toml"
    text = (CONFIGS / "ranklens.toml").read_text()
    config.write_text(f"training_lists = 400\n{text}{SHORT}")
    run(main, "parquet", log, "--out", tmp_path / "log")
    expected = trained(config, log, tmp_path / "lines")
    assert trained(config, tmp_path / "log", tmp_path / "rows") == expected
