"""Tables as a log: rows of items that were shown become lists, rows of items and users lines of their own.

What the columns are is said in a mapping file (`model.data.mapping`). A row that cannot be read is left out
and counted, and too many of them refuse the whole, as in a log.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from bundle.features.fitting import as_token
from model.data.findings import Effect, Findings
from model.data.list_sizes import ListSizes
from model.data.log_lines import replacing
from model.data.mapping import Impressions, Interactions, Mapping, Records
from model.data.raw_table import RawTable, instant, split
from model.data.sessions import cut
from model.data.toml_file import read_toml, validated

TRUE = frozenset({"1", "1.0", "true", "t", "yes", "y"})
FALSE = frozenset({"0", "0.0", "false", "f", "no", "n", ""})
GAPS_S = (600.0, 3600.0, 86400.0)
"""What other gaps would give is told of these."""


@dataclass(slots=True)
class Shown:
    """An item in a list. `outcomes` are types of interactions."""

    position: float
    item: str
    score: float | None
    features: dict[str, Any]
    outcomes: list[str]


@dataclass(slots=True)
class Listed:
    """Rows that are one list; `timestamp` is the first's."""

    id: str
    user: str | None
    timestamp: float
    context: dict[str, Any]
    shown: list[Shown] = field(default_factory=list)


class Row(NamedTuple):
    """A row of impressions: where it stands, its list if it says so, and itself as a list of one item."""

    where: str
    list: str | None
    listed: Listed
    shown: Shown

    @property
    def timestamp(self) -> float:
        return self.listed.timestamp


class Converted:
    """How many events were written, what the lists are like, and what is wrong with the tables."""

    def __init__(self, counts: dict[str, int], lists: list[str], found: Findings) -> None:
        self._counts, self._lists, self._found = counts, lists, found

    def __str__(self) -> str:
        written = ", ".join(f"{count:,} {name}" for name, count in self._counts.items())
        lines = [*self._lists, *map(self._found.told, self._found)]
        return "\n".join([written, *(f"  {line}" for line in lines)])


def convert(mapping_file: Path, out: Path) -> Converted:
    """Write the log of a mapping file's tables.

    Raises:
        ConfigError: the mapping is wrong, or names a column that is not there.
        DataUnavailableError: a table is not there.
        EventLogError: too many rows cannot be read; nothing is written.
    """
    mapping = validated(Mapping, read_toml(mapping_file), mapping_file)
    found = Findings()
    tables = _Tables(mapping, mapping_file.parent, found)
    counts = dict.fromkeys(("items", "users", "rankings", "interactions"), 0)
    with replacing(out) as file:
        for event in tables.events():
            counts[f"{event['event']}s"] += 1
            file.write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n")
        found.refuse()
    return Converted(counts, tables.lists(), found)


class _Tables:
    """The tables of a mapping, checked to have its columns before anything is read."""

    def __init__(self, mapping: Mapping, directory: Path, found: Findings) -> None:
        self._mapping, self._found = mapping, found
        self._sizes = ListSizes()
        self._other_gaps = {gap: ListSizes() for gap in GAPS_S if gap != mapping.impressions.gap_s}
        self._outcomes: Counter[str] = Counter()  # of rows
        self._kept: Counter[str] = Counter()  # of items in lists
        self._impressions = RawTable(directory, mapping.impressions.file, found, "impressions")
        self._impressions.check(mapping.impressions.columns)
        self._interactions = None
        if mapping.interactions is not None:
            self._interactions = RawTable(directory, mapping.interactions.file, found, "interactions")
            self._interactions.check(mapping.interactions.columns)
        self._records: list[tuple[str, Records, RawTable, list[str]]] = []
        for kind, records in (("item", mapping.items), ("user", mapping.users)):
            if records is not None:
                table = RawTable(directory, records.file, found, f"{kind}s")
                names = list(records.fields or [name for name in table.columns if name != records.id])
                table.check([records.id, *names, *records.lists])
                self._records.append((kind, records, table, names))

    def events(self) -> Iterator[dict[str, Any]]:
        for kind, records, table, names in self._records:
            yield from self._described(kind, records, table, names)
        impressions = self._mapping.impressions
        lists = self._by_id(impressions) if impressions.list else self._by_gap(impressions)
        for listed in sorted(lists, key=lambda listed: listed.timestamp):
            yield _ranking(listed)
            self._sizes.add([bool(shown.outcomes) for shown in listed.shown])
            for shown in listed.shown:
                for kind in shown.outcomes:
                    yield {"event": "interaction", "ranking": listed.id, "item": shown.item, "type": kind}
        if self._interactions is not None and self._mapping.interactions is not None:
            yield from self._done(self._mapping.interactions, self._interactions)

    def lists(self) -> list[str]:
        """What lists the rows became, once all events were read."""
        if not self._sizes.lists:
            return []
        impressions, (fewest, median, most) = self._mapping.impressions, self._sizes.spread
        found = [
            f"lists of {fewest} to {most} items, {median:g} in the median, {self._sizes.single:.0%} of one"
        ]
        if impressions.outcomes and self._interactions is None:
            found.append(self._sizes.taught)
        if impressions.list is None:
            found += [
                f"gap_s = {gap:g} would give {sizes.lists:,} lists, {sizes.single:.0%} of one item, and "
                f"{sizes.teaching:,} that teach something"
                for gap, sizes in self._other_gaps.items()
            ]
        lost = {kind: count for kind, count in self._outcomes.items() if count != self._kept[kind]}
        return found + [
            f"{kind}: {self._kept[kind]:,} interactions of {count:,} rows" for kind, count in lost.items()
        ]

    def _described(
        self, kind: str, records: Records, table: RawTable, names: list[str]
    ) -> Iterator[dict[str, Any]]:
        typed = [name for name in names if name not in records.lists]
        for where, row in table.rows([records.id, *names], typed):
            if row[records.id] is None:
                self._leave_out("row without an id", table, where, f"no `{records.id}`")
                continue
            values = {
                name: split(value, records.lists[name]) if name in records.lists else value
                for name, value in row.items()
                if name != records.id and value is not None
            }
            yield {"event": kind, kind: as_token(row[records.id]), "fields": _fields(values)}

    def _rows(self, mapping: Impressions) -> Iterator[Row]:
        typed = [*mapping.context, *mapping.features]
        for where, row in self._impressions.rows(mapping.columns, typed):
            try:
                shown = Shown(
                    position=float("nan") if mapping.position is None else _number(row, mapping.position),
                    item=_text(row, mapping.item),
                    score=None
                    if not mapping.score or row[mapping.score] is None
                    else _number(row, mapping.score),
                    features=_some(row, mapping.features),
                    outcomes=[kind for column, kind in mapping.outcomes.items() if _true(row, column)],
                )
                user = row[mapping.user] if mapping.user else None
                listed = Listed(
                    id="",
                    user=None if user is None else as_token(user),
                    timestamp=self._instant(row, mapping.timestamp, self._impressions, where),
                    context=_some(row, mapping.context),
                )
                list_id = _text(row, mapping.list) if mapping.list else None
            except ValueError as error:
                self._leave_out("row that cannot be read", self._impressions, where, str(error))
                continue
            self._outcomes.update(shown.outcomes)
            yield Row(where, list_id, listed, shown)

    def _by_id(self, mapping: Impressions) -> list[Listed]:
        """Lists by their id; the earliest row says when."""
        lists: dict[str, Listed] = {}
        for where, list_id, row, shown in self._rows(mapping):
            assert list_id is not None
            listed = lists.setdefault(list_id, row)
            listed.id = list_id
            if listed.user != row.user:
                message = f"list {list_id!r} is of user {listed.user!r}, and here of {row.user!r}"
                self._leave_out("list of two users", self._impressions, where, message)
                continue
            listed.timestamp = min(listed.timestamp, row.timestamp)
            if mapping.position is None:
                shown.position = len(listed.shown)
            listed.shown.append(shown)
            self._kept.update(shown.outcomes)
        for listed in lists.values():
            listed.shown.sort(key=lambda shown: shown.position)
        return list(lists.values())

    def _by_gap(self, mapping: Impressions) -> Iterator[Listed]:
        """Lists of what a user was shown in one go."""
        by_user: dict[str, list[Row]] = {}
        for row in self._rows(mapping):
            if row.listed.user is None:
                message = "no user, so it cannot be told which rows are a list: name the column `list`"
                self._leave_out("row of nobody", self._impressions, row.where, message)
            else:
                by_user.setdefault(row.listed.user, []).append(row)
        for user, rows in by_user.items():
            rows.sort(key=lambda row: row.timestamp)
            for gap, sizes in self._other_gaps.items():
                for session in cut(rows, gap, mapping.max_items):
                    done: dict[str, bool] = {}
                    for row in session:
                        done[row.shown.item] = done.get(row.shown.item, False) or bool(row.shown.outcomes)
                    sizes.add(done.values())
            for number, session in enumerate(cut(rows, mapping.gap_s, mapping.max_items), 1):
                yield self._merged(f"{user}-{number}", session)

    def _merged(self, list_id: str, rows: list[Row]) -> Listed:
        """Rows as a list, in which an item counts once."""
        listed = rows[0].listed
        listed.id = list_id
        items: dict[str, Shown] = {}
        for row in rows:
            known = items.setdefault(row.shown.item, row.shown)
            if known is not row.shown:
                message = f"`{known.item}` again in its list, where an item, and what was done, counts once"
                self._found.add("item twice", Effect.READ, self._impressions.rows_of, row.where, message)
                known.outcomes += [kind for kind in row.shown.outcomes if kind not in known.outcomes]
        listed.shown = list(items.values())
        for shown in listed.shown:
            self._kept.update(shown.outcomes)
        return listed

    def _done(self, mapping: Interactions, table: RawTable) -> Iterator[dict[str, Any]]:
        for where, row in table.rows(mapping.columns):
            try:
                event: dict[str, Any] = {
                    "event": "interaction",
                    "ranking": _text(row, mapping.list),
                    "item": _text(row, mapping.item),
                    "type": _text(row, mapping.type_column) if mapping.type_column else mapping.type,
                }
                if mapping.timestamp and row[mapping.timestamp] is not None:
                    event["timestamp"] = self._instant(row, mapping.timestamp, table, where)
            except ValueError as error:
                self._leave_out("row that cannot be read", table, where, str(error))
                continue
            yield event

    def _instant(self, row: dict[str, Any], column: str, table: RawTable, where: str) -> float:
        """Unix seconds."""
        try:
            found = instant(row[column])
        except ValueError as error:
            raise ValueError(f"`{column}`: {error}") from None
        if not found.zoned:
            message = f"`{column}` says no time zone, and is read as UTC"
            self._found.add("time zone", Effect.READ, table.rows_of, where, message, table.rows_of)
        return found.seconds

    def _leave_out(self, kind: str, table: RawTable, where: str, message: str) -> None:
        self._found.add(kind, Effect.LEFT_OUT, table.rows_of, where, message, about=table.rows_of)


def _ranking(listed: Listed) -> dict[str, Any]:
    items = [
        {
            "id": shown.item,
            "fields": _fields(
                shown.features if shown.score is None else {**shown.features, "relevancy": shown.score}
            ),
        }
        for shown in listed.shown
    ]
    return {
        "event": "ranking",
        "id": listed.id,
        "user": listed.user,
        "timestamp": listed.timestamp,
        "items": items,
        "fields": _fields(listed.context),
    }


def _fields(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _some(row: dict[str, Any], columns: tuple[str, ...]) -> dict[str, Any]:
    return {name: row[name] for name in columns if row[name] is not None}


def _text(row: dict[str, Any], column: str) -> str:
    if row[column] is None:
        raise ValueError(f"no `{column}`")
    return as_token(row[column])


def _number(row: dict[str, Any], column: str) -> float:
    text = _text(row, column)
    with suppress(ValueError):
        if isfinite(number := float(text)):
            return number
    raise ValueError(f"`{column}`: expected a number, got {row[column]!r}")


def _true(row: dict[str, Any], column: str) -> bool:
    value = "" if row[column] is None else str(row[column]).lower()
    if value not in TRUE | FALSE:
        raise ValueError(f"`{column}`: expected 0 or 1, got {row[column]!r}")
    return value in TRUE
