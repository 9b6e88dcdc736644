"""A log in the event format as Parquet, a folder a kind of event and a day: `event=ranking/day=2021-11-15/`.

Columns are the keys of an event; `fields` is a struct. A file may also have a column `event`, and then events
of every kind. Read in streams, however large a file or a row group is. Knows nothing of what the rows say.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from bundle.timestamps import read_time
from model.data.arrow import ColumnError, plain_type, values
from model.data.findings import Effect, EventLogError, Findings

MAGIC = b"PAR1"
SUFFIX = ".parquet"
READ_ROWS, WRITTEN_ROWS, HELD_ROWS, BUFFER_BYTES = 1024, 5_000, 20_000, 1 << 20
KINDS = ("item", "user", "ranking", "interaction")
"""In the order in which they are read."""

NO_DAY = "unknown"
NOTHING = {"unknown": None}
"""A profile without a field, which is not no profile: Parquet has no record of nothing."""

Located = tuple[str, Any]


def is_parquet(path: Path) -> bool:
    """Whether a log is of this form: a file, or a directory with such files below it."""
    if path.is_dir():
        return bool(files_of(path))
    if path.is_file():
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    return False


def files_of(path: Path) -> list[Path]:
    """Items, users, rankings, interactions, then what has a kind of its own; each by day."""
    if not path.is_dir():
        return [path]
    return sorted(_below(path, f"*{SUFFIX}"), key=lambda file: (_rank(_kind_of(file)), str(file)))


def read_rows(path: Path, found: Findings) -> Iterator[Located]:
    """Events, and where each stands, such as `log/event=item/0.parquet row 7`, counted from 0."""
    for file in files_of(path):
        yield from _rows(file, found)
    lines = [*_below(path, "*.jsonl"), *_below(path, "*.jsonl.gz")] if path.is_dir() else []
    if lines:
        message = "lines beside Parquet are not read: a log is one or the other"
        found.add("lines beside Parquet", Effect.SUSPECT, "", str(min(lines)), message, "", len(lines))
    if not found.totals["lines"] and not found.refusals:
        found.add("empty file", Effect.REFUSED, "lines", str(path), "there is nothing in it")


def _rows(path: Path, found: Findings) -> Iterator[Located]:
    kind, row = _kind_of(path), 0
    if not path.stat().st_size:
        found.add("empty file", Effect.REFUSED, "", str(path), "there is nothing in it")
        return
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
            schema = file.schema_arrow
            if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
                raise ColumnError(f"column {twice[0]}: there are {schema.names.count(twice[0])} of this name")
            columns = {one.name: plain_type(one.type, one.name) for one in schema}
            for name in _without_zone(schema):
                message = f"column {name} has no time zone, and is read as UTC"
                found.add("time zone", Effect.READ, "", str(path), message)
            for batch in file.iter_batches(READ_ROWS):
                arrays = [batch.column(name).cast(type_) for name, type_ in columns.items()]
                for event in _events(pa.StructArray.from_arrays(arrays, list(columns)), path, row, found):
                    where, row = f"{path} row {row}", row + 1
                    found.totals["lines"] += 1
                    if event is None:
                        continue
                    if kind is not None:
                        event.setdefault("event", kind)
                    if "user" in columns:  # null is somebody unknown
                        event.setdefault("user", None)
                    yield where, _named(event)
    except ColumnError as error:
        found.add("column of another type", Effect.REFUSED, "", str(path), str(error))
    except (pa.ArrowException, OSError) as error:
        message = f"damaged here, and what follows is lost: {error}"
        found.add("damaged Parquet", Effect.REFUSED, "", f"{path} row {row}", message)


def _events(rows: pa.Array, path: Path, first: int, found: Findings) -> list[dict[str, Any] | None]:
    """Rows as events; None for one with a text that cannot be read."""
    try:
        return values(rows)
    except (UnicodeDecodeError, pa.ArrowException):
        if len(rows) == 1:
            message = "a text that is no UTF-8"
            found.add("encoding", Effect.REFUSED, "", f"{path} row {first}", message, about="text")
            return [None]
    return [one for n in range(len(rows)) for one in _events(rows.slice(n, 1), path, first + n, found)]


def _named(event: dict[str, Any]) -> dict[str, Any]:
    """With fields as a JSON line has them."""
    for key in ("fields", "profile"):
        if key in event:
            event[key] = _fields(event[key])
    if type(items := event.get("items")) is list:
        for item in items:
            if type(item) is dict and "fields" in item:
                item["fields"] = _fields(item["fields"])
    return event


def _fields(told: Any) -> Any:
    """Names and values of a record; of a list of them, null where a value was, which structs are without."""
    if isinstance(told, dict):
        return [{"name": name, "value": value} for name, value in told.items()]
    for field in told if isinstance(told, list) else ():
        if isinstance(field, dict):
            field.setdefault("value", None)
    return told


def _below(directory: Path, pattern: str) -> list[Path]:
    """Files, but those in names that begin with `_` or `.`, which are work under way or somebody else's."""
    return [
        path
        for path in directory.rglob(pattern)
        if not path.is_dir()
        and not any(name.startswith(("_", ".")) for name in path.relative_to(directory).parts)
    ]


def _without_zone(schema: pa.Schema) -> list[str]:
    return [one.name for one in schema if types.is_timestamp(one.type) and one.type.tz is None]


def _kind_of(path: Path) -> str | None:
    """As the folder's name says."""
    for name in reversed(path.parts):
        key, is_key, kind = name.partition("=")
        if is_key and key == "event":
            return kind
    return None


def _rank(kind: str | None) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def write_rows(events: Iterable[Located], out: Path) -> int:
    """Write a log, `WRITTEN_ROWS` events of a kind and day in a file, and return how many there are. A file
    has the columns that its own events need.

    Raises:
        EventLogError: something is in the directory, or events do not fit into columns.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EventLogError(f"{out}: expected an empty directory")
    waiting: dict[tuple[str, str], list[Located]] = {}
    written: dict[tuple[str, str], int] = {}
    day, count, held = NO_DAY, 0, 0
    for where, event in events:
        kind = event.get("event") if isinstance(event, dict) else None
        if kind not in KINDS:
            raise EventLogError(f"{where}: event {kind!r:.60} is not one of {', '.join(KINDS)}")
        count += 1
        if kind in ("item", "user"):
            place = kind, ""
        else:
            day = _day(event, where, day)
            place = kind, day
        waiting.setdefault(place, []).append((where, event))
        held += 1
        if len(waiting[place]) >= WRITTEN_ROWS:
            held -= len(waiting[place])
            _write(waiting.pop(place), out, place, written)
        elif held >= HELD_ROWS:
            for other in list(waiting):
                _write(waiting.pop(other), out, other, written)
            held = 0
    for place, rows in waiting.items():
        _write(rows, out, place, written)
    return count


def _write(
    rows: list[Located], out: Path, place: tuple[str, str], written: dict[tuple[str, str], int]
) -> None:
    """One more file of a kind and day."""
    kind, day = place
    folder = out / f"event={kind}" / (f"day={day}" if day else "")
    folder.mkdir(parents=True, exist_ok=True)
    number = written[place] = written.get(place, -1) + 1
    records = [_record(event, where) for where, event in rows]
    try:
        names = dict.fromkeys(name for record in records for name in record)
        columns = [pa.array([record.get(name) for record in records]) for name in names]
        table = pa.Table.from_arrays(columns, list(names))
        pq.write_table(table, folder / f"{number:06d}{SUFFIX}", compression="zstd")
    except (pa.ArrowException, OverflowError) as error:
        first, last = rows[0][0], rows[-1][0]
        raise EventLogError(f"{first} to {last}: values of one key are no column: {error}") from error


def _record(event: Mapping[str, Any], where: str) -> dict[str, Any]:
    """An event with its fields as a record, without what is empty."""
    try:
        said = {k: v for k, v in event.items() if k != "event" and (v is not None or k == "user")}
        record = _with_record(said, "fields")
        if "profile" in record:
            record["profile"] = _as_record(record["profile"]) or NOTHING
        if isinstance(items := record.get("items"), list) and all(isinstance(item, dict) for item in items):
            record["items"] = [_with_record(item, "fields") for item in items]
    except (KeyError, TypeError):
        raise EventLogError(f"{where}: expected fields with a `name` and a `value`") from None
    return record


def _with_record(value: dict[str, Any], key: str) -> dict[str, Any]:
    """Without the key where it has no fields."""
    if key not in value:
        return value
    others = {name: one for name, one in value.items() if name != key}
    record = _as_record(value[key])
    return others if record == {} else {**others, key: record}


def _as_record(fields: Any) -> Any:
    if not isinstance(fields, list):
        return fields
    return {field["name"]: field["value"] for field in fields}


def _day(event: Mapping[str, Any], where: str, latest: str) -> str:
    """Of an event, or of the one before where it does not say its time."""
    at = event.get("timestamp")
    if at is None:
        return latest
    try:
        return datetime.fromtimestamp(read_time(at).seconds, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise EventLogError(f"{where}: `timestamp`: {error}") from None
