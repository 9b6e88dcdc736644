"""One line of a log as an event with types: ids as texts, times as unix seconds, fields by name.

What is wrong costs the line, or the value alone where that is all of it. Knows nothing of how events belong
together.
"""

import difflib
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.features.fitting import as_token
from bundle.features.history import Interaction
from bundle.timestamps import read_time
from model.data.declared_fields import DeclaredFields, described, is_finite, is_number
from model.data.findings import Effect, EventLogError, Findings

NOBODY = frozenset({"", "none", "null", "nan", "undefined"})
"""How an absent user reads where somebody made a text of it."""

OF_ITEMS = frozenset({"item", "items", "id of an item", "item of `history`"})
"""Keys of ids that occur again and again."""

EXACT = 2.0**53
"""From here on a float stands for more than one whole number."""

EARLIEST_S = 1e8
"""March 1973: no log is older."""

Record = dict[str, Any]


class LineError(EventLogError):
    """A fault that costs the line it is in."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Ranking:
    """A list as it was logged.

    Attributes:
        user: None is somebody unknown.
        timestamp: unix seconds.
        shown: indices into candidates in the order shown, `[L] int64`; `says_shown` if the line has them.
        sent: features that came with each candidate; empty where none did.
        scores: the initial ranker's, NaN where an item has none; None where they say nothing.
        propensity, profile, history: None where the line has none.
    """

    where: str
    id: str
    user: str | None
    timestamp: float
    candidates: tuple[str, ...]
    shown: NDArray[np.int64]
    says_shown: bool
    sent: list[Record]
    scores: tuple[float, ...] | None
    context: Record
    propensity: NDArray[np.float64] | None
    profile: Record | None
    history: tuple[Interaction, ...] | None


class Response(NamedTuple):
    """What somebody did with an item of a list. `timestamp` in unix seconds, if it is known."""

    where: str
    item_id: str
    type: str
    timestamp: float | None


class EventParser:
    """Events from JSON values; whatever is unusual about them goes to the findings."""

    def __init__(self, fields: DeclaredFields, found: Findings) -> None:
        self._fields, self._found = fields, found
        self._ids: dict[str, str] = {}  # of items: one text of each, however often it is read

    def item(self, event: Record, where: str) -> tuple[str, Record]:
        item_id = self._id(_required(event, "item"), "item", where)
        return item_id, self._fields.checked("item", self._record(event.get("fields"), where), where)

    def user(self, event: Record, where: str) -> tuple[str, Record]:
        user_id = self._id(_required(event, "user"), "user", where)
        return user_id, self._fields.checked("user", self._record(event.get("fields"), where), where)

    def interaction(self, event: Record, where: str) -> tuple[str, Response]:
        """The id of its ranking, and what was done."""
        ranking_id = self._id(_required(event, "ranking"), "ranking", where)
        item_id = self._id(_required(event, "item"), "item", where)
        kind = _required(event, "type")
        if not isinstance(kind, str) or not kind:
            raise LineError("key of another type", f"`type` of an interaction: got {described(kind)}")
        self._say_told(event, "an interaction", where, of="interactions")
        at = event.get("timestamp")
        return ranking_id, Response(
            where, item_id, sys.intern(kind), None if at is None else self._time(at, where)
        )

    def ranking(self, event: Record, where: str) -> Ranking:
        ranking_id = self._id(_required(event, "id"), "id", where)
        user, timestamp = self._user(event, where), self._time(_required(event, "timestamp"), where)
        if timestamp < EARLIEST_S:
            message = f"timestamp {event['timestamp']} is before 1973, so no unix time; ages count from it"
            self._found.add("early timestamp", Effect.READ, "rankings", where, message)
        candidates, sent = self._items(_required(event, "items"), where)
        says_shown = event.get("shown") is not None
        shown = _shown(event["shown"], len(candidates)) if says_shown else np.arange(len(candidates))
        if len(set(candidates)) < len(candidates):
            twice = next(item for place, item in enumerate(candidates) if item in candidates[:place])
            if says_shown or event.get("propensity") is not None:
                raise LineError("item twice", f"item {twice!r} is twice in a list that says what was shown")
            message = f"item {twice!r} is twice in the list; its first place counts"
            self._found.add("item twice", Effect.DOUBTFUL, "rankings", where, message)
            first = _first_places(candidates)
            candidates, sent = tuple(first), [sent[place] for place in first.values()]
            shown = np.arange(len(candidates))
        scores = [self._score(own.pop("relevancy", None), where) for own in sent]
        profile, past = event.get("profile"), event.get("history")
        return Ranking(
            where,
            ranking_id,
            user,
            timestamp,
            candidates,
            shown,
            says_shown,
            [self._fields.checked("item", own, where) for own in sent] if any(sent) else [],
            (
                tuple(math.nan if score is None else score for score in scores)
                if len({score for score in scores if score is not None}) > 1
                else None
            ),
            self._fields.checked("context", self._record(event.get("fields"), where), where),
            _propensity(event.get("propensity"), len(shown)),
            None if profile is None else self._fields.checked("user", self._record(profile, where), where),
            None if past is None else self._history(past, where),
        )

    def _items(self, items: Any, where: str) -> tuple[tuple[str, ...], list[Record]]:
        """Ids, and what was sent with each."""
        if not isinstance(items, list):
            raise LineError("key of another type", f"`items`: expected a list, got {described(items)}")
        if not items:
            raise LineError("list without items", "a ranking without items")
        ids, sent = [], []
        for item in items:
            if isinstance(item, Mapping):
                ids.append(self._id(_required(item, "id", "an item of a ranking"), "id of an item", where))
                sent.append(self._record(item.get("fields"), where))
            else:
                ids.append(self._id(item, "items", where))
                sent.append({})
                message = '`items` has plain ids, which are read as {"id": ...}'
                self._found.add("items as plain ids", Effect.READ, "", where, message)
        return tuple(ids), sent

    def same_id(self, item_id: str) -> str:
        """The one text of an item's id."""
        return self._ids.get(item_id, item_id)

    def _id(self, value: Any, key: str, where: str) -> str:
        if isinstance(value, str) and value:
            return self._ids.setdefault(value, value) if key in OF_ITEMS else value
        if is_number(value) and is_finite(value):
            if isinstance(value, float):
                if abs(value) >= EXACT:
                    message = f"`{key}`: {value:.0f} is more than one whole number as a float; write texts"
                    raise LineError("id of another type", message)
                message = f"`{key}` is the number {value}, read as {as_token(value)!r}"
                self._found.add("id as a float", Effect.READ, "", where, message, key)
            return as_token(value)
        got = "an empty text" if value == "" else described(value)
        raise LineError("id of another type", f"`{key}`: expected a text or a number, got {got}")

    def _user(self, event: Record, where: str) -> str | None:
        user = _required(event, "user")
        absent = user is None or (isinstance(user, str) and user.strip().lower() in NOBODY)
        if absent or (isinstance(user, float) and math.isnan(user)):
            message = f"`user` is {described(user)}: a list of somebody unknown"
            self._found.add("anonymous list", Effect.READ, "rankings", where, message)
            return None
        return self._id(user, "user", where)

    def _time(self, value: Any, where: str) -> float:
        try:
            instant = read_time(value)
        except ValueError as error:
            raise LineError("timestamp", f"`timestamp`: {error}") from error
        if instant.seconds < 0:
            raise LineError("timestamp", f"`timestamp`: {described(value)} is before 1970")
        found = self._found
        found.add("unit of time", Effect.READ, "", where, f"timestamps are in {instant.unit}", instant.unit)
        if not instant.zoned:
            message = f"timestamp {value!r} has no time zone, and is read as UTC"
            found.add("time zone", Effect.READ, "", where, message)
        return instant.seconds

    def _record(self, fields: Any, where: str) -> Record:
        if fields is None:
            return {}
        if isinstance(fields, Mapping):
            message = '`fields` is an object, which is read as [{"name": ..., "value": ...}]'
            self._found.add("fields as an object", Effect.READ, "", where, message)
            return dict(fields)
        if not isinstance(fields, list):
            raise LineError("key of another type", f"`fields`: expected a list, got {described(fields)}")
        record = {}
        for field in fields:
            if not isinstance(field, Mapping):
                raise LineError("key of another type", f"`fields`: {described(field)} is no name and value")
            name = _required(field, "name", "a field")
            if not isinstance(name, str):
                raise LineError("key of another type", f"`name` of a field: got {described(name)}")
            record[name] = _required(field, "value", f"field {name!r}")
        return record

    def _score(self, value: Any, where: str) -> float | None:
        if value is None:
            return None
        self._found.totals["scores"] += 1
        if is_number(value) and is_finite(value):
            return float(value)
        message = f"`relevancy`: expected a number, got {described(value)}"
        self._found.add("value of another kind", Effect.LEFT_OUT, "scores", where, message, "relevancy")
        return None

    def _history(self, events: Any, where: str) -> tuple[Interaction, ...]:
        if not isinstance(events, list) or not all(isinstance(event, Mapping) for event in events):
            raise LineError("key of another type", "`history`: expected a list of objects")
        for event in events:
            self._say_told(event, "an event of `history`", where)
        return tuple(
            Interaction(
                self._id(_required(event, "item", "an event of `history`"), "item of `history`", where),
                str(_required(event, "type", "an event of `history`")),
                None if event.get("timestamp") is None else self._time(event["timestamp"], where),
            )
            for event in events
        )

    def _say_told(self, event: Mapping[str, Any], what: str, where: str, of: str = "") -> None:
        """Name what came with an event as its features, in the log's form or that of the API."""
        for given in (event.get("fields"), event.get("features")):
            named = given if isinstance(given, Mapping) else {}
            if isinstance(given, list):
                named = {str(one.get("name")): one.get("value") for one in given if isinstance(one, Mapping)}
            for name in (name for name, value in named.items() if value is not None):
                message = f"`{name}` came with {what}, and is not read: fields are of items, users and lists"
                self._found.add("feature of an event", Effect.READ, of, where, message, f"{what} {name}")


def _first_places(values: Iterable[str]) -> dict[str, int]:
    """The first place of each value, in the order of places."""
    first: dict[str, int] = {}
    for place, value in enumerate(values):
        first.setdefault(value, place)
    return first


def _required(event: Mapping[str, Any], key: str, what: str = "") -> Any:
    if key in event:
        return event[key]
    close = difflib.get_close_matches(key, event, 1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    raise LineError("missing key", f"{what or event.get('event')} without `{key}`{hint}")


def _shown(value: Any, candidates: int) -> NDArray[np.int64]:
    whole = isinstance(value, list) and all(isinstance(one, int) and is_number(one) for one in value)
    if not whole or not all(0 <= one < candidates for one in value) or len(set(value)) < len(value):
        raise LineError(
            "shown", f"`shown`: expected different indices of {candidates} items, got {value!r:.60}"
        )
    return np.array(value, np.int64)


def _propensity(value: Any, shown: int) -> NDArray[np.float64] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(is_number(one) and 0 <= one <= 1 for one in value):
        raise LineError("propensity", "propensity: expected a list of numbers from 0 to 1")
    if len(value) != shown:
        raise LineError("propensity", f"propensity: {len(value)} for {shown} items shown")
    return np.array(value, np.float64)
