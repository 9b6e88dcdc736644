"""Lists in bulk are the service's; what is wrong with a row or a file is set aside, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_rows import AT, Row, draw, lists, of_ids, refused, write

from export.bulk.__main__ import rerank
from export.bulk.job import Done
from export.bulk.source import InputError
from service.app import create_app
from service.settings import Settings


def present(value: Any) -> Any:
    """Without what is null, as JSON has it."""
    if isinstance(value, dict):
        return {name: present(own) for name, own in value.items() if own is not None}
    return [present(own) for own in value] if isinstance(value, list) else value


async def answers(bundle: Path, rows: list[Row]) -> list[Row]:
    """The service's, each asked by itself, of users whose context it was given."""
    found = []
    app = create_app(Settings(bundle=bundle, default_deadline_ms=10_000))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        for row in rows:
            body = present({name: own for name, own in row.items() if name not in ("profile", "history")})
            body["items"] = [{"id": item} if isinstance(item, str) else item for item in body["items"]]
            if row["user_id"] is not None:
                context = present({name: row[name] for name in ("profile", "history")})
                put = await client.put(f"/v1/users/{row['user_id']}/context", json=context)
                assert put.status_code == 204, put.text
            answer = await client.post("/v1/rerank", json=body)
            assert answer.status_code == 200, answer.text
            found.append(answer.json())
    return found


def anonymous(rows: list[Row]) -> list[Row]:
    """A service knows nothing of nobody: no context either where there is no user."""
    return [row if row["user_id"] else row | {"profile": None, "history": None} for row in rows]


async def compare(bundle: Path, folder: Path, rows: list[Row]) -> None:
    rows, count = anonymous(rows), len(rows)
    source = write(folder / "requests.parquet", rows, row_group_size=max(1, count // 3))
    assert rerank(bundle, str(source), folder / "out", part_rows=max(1, count // 4)) == Done(count, 0)
    for row, own in zip(await answers(bundle, rows), lists(folder / "out"), strict=True):
        assert own["request_id"] == row["request_id"]
        results = own["results"]
        assert [one["id"] for one in results] == [one["id"] for one in row["results"]]
        assert [one["index"] for one in results] == [one["index"] for one in row["results"]]
        for name in ("score", "propensity"):
            assert [one[name] for one in results] == pytest.approx(
                [one[name] for one in row["results"]], abs=1e-5
            )
        for name in ("missing_ids", "fallback"):
            assert own[name] == row[name]
        assert own["ignored"] == row["ignored"]
        assert own["shortened_by"] == row.get("shortened_by")
        if row["reasoning"] is None:
            assert own["reasoning"] is None
        else:
            assert own["reasoning"]["tokens"] == row["reasoning"]["tokens"]


async def test_lists_are_those_of_the_service(bundle: Path, tmp_path: Path) -> None:
    await compare(bundle, tmp_path, draw(200))


async def test_lists_of_ids_are_those_of_the_service(bundle: Path, tmp_path: Path) -> None:
    await compare(bundle, tmp_path, of_ids(draw(100)))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [list, of_ids])
async def test_ten_thousand_lists_are_those_of_the_service(
    shape: Callable[[list[Row]], list[Row]], bundle: Path, tmp_path: Path
) -> None:
    await compare(bundle, tmp_path, shape(draw(10_000)))


def test_what_is_read_by_column_and_value_by_value_is_the_same(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two ways that ids and histories are read."""
    monkeypatch.setenv("RERANK_MAX_HISTORY", "20")
    rows = of_ids(draw(50, seed=3))
    told = [
        row
        | {"items": [{"id": item} for item in row["items"]]}
        | {"history": [event | {"features": None} for event in row["history"]]}
        for row in rows
    ]
    by_column = write(tmp_path / "plain.parquet", rows)
    schema = pa.Table.from_pylist(told).schema
    place = schema.get_field_index("history")
    *event, _ = schema.field(place).type.value_type
    event.append(pa.field("features", pa.struct([("price", pa.float64())])))
    table = pa.Table.from_pylist(told, schema.set(place, pa.field("history", pa.list_(pa.struct(event)))))
    pq.write_table(table, tmp_path / "told.parquet")
    rerank(bundle, str(by_column), tmp_path / "a", at=AT)
    rerank(bundle, str(tmp_path / "told.parquet"), tmp_path / "b", at=AT)
    strip = [{name: own for name, own in row.items() if name != "file"} for row in lists(tmp_path / "a")]
    assert strip == [{n: own for n, own in row.items() if n != "file"} for row in lists(tmp_path / "b")]


def bad(number: int, **changes: Any) -> Row:
    return {"request_id": f"r{number}", "items": ["i1", "i2"], "history": None} | changes


FAULTS = {
    "items.1.id: 'i1' occurs twice": bad(0, items=["i1", "i1"]),
    "items: ": bad(1, items=[]),
    "items: field required": bad(2, items=None),
    "top_n: ": bad(3, top_n=0),
    "request_id: ": bad(4, request_id="with a space"),
    "history.0.type: ": bad(5, history=[{"item_id": "i1", "type": "Click!", "timestamp": 1.0}]),
    "history.0.timestamp: ": bad(6, history=[{"item_id": "i1", "type": "click", "timestamp": -1.0}]),
    "history.0.item_id: ": bad(7, history=[{"item_id": "", "type": "click", "timestamp": 1.0}]),
    "sampling.seed: needed": bad(8, sampling={"temperature": 1.0, "seed": None}),
    "profile.taste: ": bad(9, profile={"taste": [1.0, 2.0]}),
    "context.timestamp: ": bad(10, context={"timestamp": -5.0}),
}


def test_rows_that_are_no_requests_are_set_aside(bundle: Path, tmp_path: Path) -> None:
    rows = [*FAULTS.values(), bad(11), bad(12)]
    source = write(tmp_path / "requests.parquet", rows)
    assert rerank(bundle, str(source), tmp_path / "out") == Done(2, len(FAULTS))
    told = refused(tmp_path / "out")
    assert sorted(told) == list(range(len(FAULTS)))
    for (expected, _), reason in zip(FAULTS.items(), told.values(), strict=True):
        assert reason.startswith(expected), reason
    assert [row["row"] for row in lists(tmp_path / "out")] == [11, 12]
    assert {row["file"] for row in lists(tmp_path / "out")} == {str(source)}


def test_text_that_is_no_utf8_costs_its_row(bundle: Path, tmp_path: Path) -> None:
    ids = pa.array([b"r0", b"r\xff1", b"r2"]).view(pa.string())
    items = pa.array([["i1", "i2"]] * 3)
    pq.write_table(pa.table({"request_id": ids, "items": items}), tmp_path / "requests.parquet")
    assert rerank(bundle, str(tmp_path / "requests.parquet"), tmp_path / "out") == Done(2, 1)
    assert "cannot be read" in refused(tmp_path / "out")[1]


def test_columns_of_other_types_say_the_same(bundle: Path, tmp_path: Path) -> None:
    rows = [
        {
            "request_id": f"r{n}",
            "items": [{"id": f"i{n + k}", "score": k / 4, "features": {"price": 2.5}} for k in range(5)],
            "context": {"device": "ios", "timestamp": 1_700_000_000},
            "history": [{"item_id": f"i{n}", "type": "click", "timestamp": 1_700_000_000}],
        }
        for n in range(20)
    ]
    text, instant = pa.large_string(), pa.timestamp("ms", "Europe/Vienna")
    seconds = pa.array([1_700_000_000_000] * len(rows)).cast(instant)
    ids = pa.array([one["id"] for row in rows for one in row["items"]])
    scores = pa.array([one["score"] for row in rows for one in row["items"]]).cast(pa.decimal128(5, 2))
    prices = pa.array([[("price", 2.5)]] * len(ids), pa.map_(text, pa.float64()))
    items = pa.StructArray.from_arrays([ids.cast(text), scores, prices], ["id", "score", "features"])
    seen = pa.array([f"i{n}" for n in range(len(rows))]).dictionary_encode()
    click = pa.array(["click"] * len(rows), text)
    events = pa.StructArray.from_arrays([seen, click, seconds], ["item_id", "type", "timestamp"])
    device = pa.array(["ios"] * len(rows), text)
    odd = {
        "request_id": pa.array([row["request_id"] for row in rows]).dictionary_encode(),
        "user_id": pa.nulls(len(rows)),
        "items": pa.LargeListArray.from_arrays(pa.array(range(0, len(ids) + 1, 5), pa.int64()), items),
        "context": pa.StructArray.from_arrays([device, seconds], ["device", "timestamp"]),
        "history": pa.LargeListArray.from_arrays(pa.array(range(len(rows) + 1), pa.int64()), events),
    }
    pq.write_table(pa.table(odd), tmp_path / "odd.parquet")
    write(tmp_path / "plain.parquet", rows)
    for name in ("odd", "plain"):
        assert rerank(bundle, str(tmp_path / f"{name}.parquet"), tmp_path / name) == Done(20, 0)
    same = ("row", "request_id", "results", "ignored", "reasoning")
    odds, plains = ([{n: row[n] for n in same} for row in lists(tmp_path / one)] for one in ("odd", "plain"))
    assert odds == plains


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_bytes(b"PAR1 and no more"), "requests.parquet: "),
        (lambda path: path.write_text('{"items": ["i1"]}\n'), "requests.parquet: "),
        (lambda path: write(path, [{"ids": ["i1"]}]), "no such column of a request: ids"),
        (lambda path: write(path, [{"user_id": "u1"}]), "no column 'items'"),
        (lambda path: write(path, [{"items": ["i1"], "deadline_ms": 5.0}]), "deadline_ms"),
        (
            lambda path: write(path, [{"items": [{"id": "i1", "features": {"raw": b"x"}}]}]),
            "items.features.raw: binary",
        ),
    ],
)
def test_a_file_that_is_no_input_is_refused(
    make: Callable[[Path], object], told: str, bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "requests.parquet"
    make(path)
    with pytest.raises(InputError, match=told):
        rerank(bundle, str(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()  # so that it may be tried again


def test_damage_inside_a_file_is_told_with_its_place(bundle: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "requests.parquet", draw(100), compression="snappy")
    content = bytearray(path.read_bytes())
    content[4:600] = bytes(596)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"requests.parquet, rows from 0 on"):
        rerank(bundle, str(path), tmp_path / "out")


def test_no_rows_make_no_parts(bundle: Path, tmp_path: Path) -> None:
    schema = pa.schema([("items", pa.list_(pa.string()))])
    pq.write_table(schema.empty_table(), tmp_path / "requests.parquet")
    assert rerank(bundle, str(tmp_path / "requests.parquet"), tmp_path / "out") == Done(0, 0)


def test_a_directory_is_all_its_files(bundle: Path, tmp_path: Path) -> None:
    for day in ("day=1", "day=2"):
        (tmp_path / "in" / day).mkdir(parents=True)
        write(tmp_path / "in" / day / "0.parquet", draw(30, seed=len(day)))
    (tmp_path / "in" / "_SUCCESS").touch()
    (tmp_path / "in" / "_temporary").mkdir()
    (tmp_path / "in" / "_temporary" / "half.parquet").write_bytes(b"half")
    assert rerank(bundle, str(tmp_path / "in"), tmp_path / "out", part_rows=20) == Done(60, 0)
    assert sorted(path.name for path in (tmp_path / "out").glob("part-*")) == [
        f"part-00000{n}.parquet" for n in range(4)
    ]
    assert [row["row"] for row in lists(tmp_path / "out")] == [*range(30), *range(30)]


def test_any_filesystem_that_fsspec_knows_is_read(bundle: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    content = write(tmp_path / "requests.parquet", draw(20)).read_bytes()
    fsspec.filesystem("memory").pipe("/bulk/requests.parquet", content)
    assert rerank(bundle, "memory://bulk/requests.parquet", tmp_path / "out") == Done(20, 0)
    with pytest.raises(InputError, match="nowhere://x"):
        rerank(bundle, "nowhere://x", tmp_path / "none")
