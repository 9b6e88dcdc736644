"""Any log in the event format of RankLens: `item`, `user`, `ranking` and `interaction` JSON lines.

This is how users bring their own logs. One JSON object a line, gzip or plain:

    {"event": "item", "item": "i1", "fields": [{"name": "price", "value": 3.0}, ...]}
    {"event": "user", "user": "u1", "fields": [...]}                      optional, the profile
    {"event": "ranking", "id": "r1", "user": "u1", "timestamp": 1636993862,
     "items": [{"id": "i1", "fields": [{"name": "relevancy", "value": 0.4}]}, ...], "fields": [...]}
    {"event": "interaction", "ranking": "r1", "item": "i1", "type": "click"}

Timestamps are unix time in any unit, told by its size, or ISO 8601. Items of a ranking stand in the order
shown; a `relevancy` that is not the same for all items is the initial ranker's score, which some items may
lack. Other fields of a ranking's items are features that were sent with it. A `user` of null is somebody
unknown, each time somebody else.

Four keys of a ranking are optional. What the service knew and logged goes before what the log implies:

    "shown": [2, 0]               indices of `items` in the order shown; all of them, as they stand
    "propensity": [0.4, 0.7]      of each that was shown, given those before it; unknown
    "history": [{"item": "i7", "type": "click", "timestamp": 1636993860}, ...]
                                  what was known of the user's past, oldest first; the earlier rankings
    "profile": [fields]           as it was known then; that of `user`

Where a ranking says what was shown, it is kept if nothing came of it: that is then known. The history of a
list is what its user was shown and did in lists with earlier timestamps, wherever in the file they stand.
"""

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.features.fitting import as_token
from bundle.features.history import UserContext
from bundle.features.schema import FeatureSchema, Scope
from model.data.declared_fields import DeclaredFields, described
from model.data.findings import Effect, EventLogError, Findings
from model.data.log_events import EventParser, LineError, Ranking, Record, Response
from model.data.log_lines import open_for_writing, read_values
from model.data.on_disk import Numbered, OnDisk
from model.data.past import Happened, Past
from model.data.slate import SPLITS, Dataset, LoggedSlate, Positive, Split, split_of

__all__ = ["EventLogError", "Located", "dataset_of", "read_event_log", "read_items", "write_with_scores"]

Located = tuple[str, Any]
"""Where an event is from, for messages, and the event."""

CLICK = ("click",)

KINDS = ("item", "user", "ranking", "interaction")
SCOPES: tuple[Scope, ...] = ("item", "user", "context")


def read_event_log(path: Path, name: str, schema: FeatureSchema | None = None) -> Dataset:
    """A log's dataset, as `dataset_of` makes it. Raises: DataUnavailableError, EventLogError."""
    found = Findings()
    dataset = dataset_of(read_values(path, found), name, found, schema)
    found.refuse()
    return dataset


def dataset_of(
    events: Iterable[Located], name: str, found: Findings, schema: FeatureSchema | None = None
) -> Dataset:
    """Events as slates, split by user. What is wrong with them goes to the findings, nothing is raised.

    Lists with no positive interaction (unless the ranking says what was shown), or with nothing else, are
    dropped (and counted), but still count as the user's history.

    Args:
        schema: the fields that values are held against, and which interactions are positive.
    """
    log = _Log(found, schema)
    for where, event in events:
        log.add(event, where)
    log.settle()
    return log.dataset(name, frozenset(schema.positive_types if schema else CLICK))


def read_items(paths: Iterable[Path], schema: FeatureSchema) -> list[tuple[str, str, Record]]:
    """Where each `item` line of files stands, its id and its fields.

    Raises: DataUnavailableError, EventLogError: anything is wrong with a line.
    """
    found, items = Findings(largest_dirt_share=0.0), []
    fields = DeclaredFields(schema, found)
    parser = EventParser(fields, found)
    for path in paths:
        for where, event in read_values(path, found):
            if isinstance(event, dict) and event.get("event") == "item":
                try:
                    items.append((where, *parser.item(event, where)))
                except LineError as error:
                    raise EventLogError(f"{where}: {error}") from None
    found.refuse()
    fields.settle_ages("item")
    fields.in_seconds("item", [record for _, _, record in items])
    return items


def write_with_scores(path: Path, out: Path, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Copy a log, with other `relevancy` in the rankings that `scores` has, by ranking and item."""
    found = Findings()
    parser = EventParser(DeclaredFields(None, found), found)
    with open_for_writing(out) as file:
        for where, event in read_values(path, found):
            if isinstance(event, dict) and event.get("event") == "ranking":
                try:
                    ranking = parser.ranking(event, where)
                except LineError:
                    continue
                if own := scores.get(ranking.id):
                    event["items"] = _scored(event["items"], own)
            file.write(json.dumps(event, ensure_ascii=False) + "\n")


class _Log:
    """Events put together: rankings by id, and what came of each."""

    def __init__(self, found: Findings, schema: FeatureSchema | None) -> None:
        self._found = found
        self._fields = DeclaredFields(schema, found)
        self._parser = EventParser(self._fields, found)
        self._items: dict[str, Record] = {}
        self._profiles: dict[str, Record] = {}
        self._rankings = OnDisk[Ranking]()
        self._numbers: dict[str, int] = {}  # of the ranking of an id
        self._times = array("d")  # of each ranking
        self._responses: dict[str, list[Response]] = defaultdict(list)
        self._left_out: set[str] = set()  # rankings
        self._types: Counter[str] = Counter()
        self._late, self._first_late = 0, ""  # rankings that are earlier than the one before them

    def add(self, event: Any, where: str) -> None:
        """Take one event in, or leave it out for what is wrong with it."""
        kind = event.get("event") if isinstance(event, dict) else None
        of = f"{kind}s" if kind in KINDS else "lines"
        if kind in KINDS:
            self._found.totals[of] += 1
        try:
            self._add(kind, event, where)
        except LineError as error:
            self._found.add(error.kind, Effect.LEFT_OUT, of, where, str(error), about=of)
            if kind == "ranking":  # its interactions go with it
                self._left_out.add(as_token(event.get("id")))

    def _add(self, kind: Any, event: Any, where: str) -> None:
        if kind == "item":
            item_id, record = self._parser.item(event, where)
            self._items.setdefault(item_id, {}).update(record)
        elif kind == "user":
            user_id, record = self._parser.user(event, where)
            self._profiles.setdefault(user_id, {}).update(record)
        elif kind == "ranking":
            self._add_ranking(self._parser.ranking(event, where))
        elif kind == "interaction":
            ranking_id, response = self._parser.interaction(event, where)
            self._responses[ranking_id].append(response)
        elif not isinstance(event, dict):
            raise LineError("not an object", f"expected an object, got {described(event)}")
        elif "event" not in event:
            names = ", ".join(event) or "no key"
            raise LineError("missing key", f"no `event` in an object with {names:.100}")
        else:
            raise LineError("unknown event", f"event {kind!r:.60} is not item, user, ranking or interaction")

    def _add_ranking(self, ranking: Ranking) -> None:
        found, where = self._found, ranking.where
        if self._times and ranking.timestamp < self._times[-1]:
            self._first_late = self._first_late or where
            self._late += 1
        self._times.append(ranking.timestamp)
        self._rankings.add(ranking)
        number = self._numbers.setdefault(ranking.id, len(self._rankings) - 1)
        if number == len(self._rankings) - 1:
            return
        first = self._rankings.read(number)
        same = ("user", "timestamp", "candidates")
        if all(getattr(first, name) == getattr(ranking, name) for name in same):
            message = f"ranking {ranking.id!r} is the same as at {first.where}, and counts once"
            found.add("ranking written twice", Effect.READ, "rankings", where, message)
        else:
            message = (
                f"ranking id {ranking.id!r} is used again, first at {first.where}; of which its interactions "
                "are cannot be told"
            )
            found.add("ranking id used again", Effect.LEFT_OUT, "rankings", where, message)
            self._left_out.add(ranking.id)

    def settle(self) -> None:
        """What can only be told once all lines are read."""
        if self._late:
            newest_first = self._late == len(self._numbers) - 1 > 0
            order = "stand newest first" if newest_first else "do not stand in the order of time"
            message, where = f"rankings {order}; they are read oldest first", self._first_late
            self._found.add("order of time", Effect.READ, "rankings", where, message, "", self._late)
        for ranking_id in self._left_out:
            self._numbers.pop(ranking_id, None)
            self._responses.pop(ranking_id, None)
        for scope in SCOPES:
            self._fields.settle_ages(scope)
        self._fields.in_seconds("item", self._items.values())
        self._fields.in_seconds("user", self._profiles.values())
        for ranking_id, responses in self._responses.items():
            responses[:] = self._of_list(ranking_id, responses)
            self._types.update(response.type for response in responses)

    def _of_list(self, ranking_id: str, responses: list[Response]) -> list[Response]:
        """Those that may be of their ranking."""
        number, found = self._numbers.get(ranking_id), self._found
        if number is None:
            message = f"interaction with ranking {ranking_id!r}, which the log does not have"
            where = responses[0].where
            found.add(
                "interaction without its list",
                Effect.LEFT_OUT,
                "interactions",
                where,
                message,
                "",
                len(responses),
            )
            return []
        ranking = self._rankings.read(number)
        shown = {ranking.candidates[place] for place in ranking.shown.tolist()}
        kept = []
        for response in responses:
            if response.item_id not in shown:
                message = (
                    f"interaction with item {response.item_id!r}, which ranking {ranking_id!r} did not show"
                )
                found.add("item not shown", Effect.LEFT_OUT, "interactions", response.where, message)
                continue
            if response.timestamp is not None and response.timestamp < ranking.timestamp:
                message = f"interaction before its list, ranking {ranking_id!r} at {ranking.where}"
                found.add("interaction too early", Effect.SUSPECT, "interactions", response.where, message)
            kept.append(response)
        return kept

    def dataset(self, name: str, positive: frozenset[str]) -> Dataset:
        kept: dict[Split, OnDisk[tuple[LoggedSlate, int]]] = {split: OnDisk() for split in SPLITS}
        dropped: Counter[str] = Counter()
        positives = OnDisk[Positive]()
        pasts: defaultdict[str, Past] = defaultdict(Past)
        people = {user_id: UserContext(profile) for user_id, profile in self._profiles.items()}
        for ranking in self._by_time():
            responses = self._responses.pop(ranking.id, [])
            past = pasts[ranking.user] if ranking.user is not None else Past()
            slate = self._slate(ranking, responses, positive)
            before = past.before(ranking.timestamp)
            total = int(slate.labels.sum())
            if total == 0 and not ranking.says_shown:
                dropped["no positive"] += 1
            elif total == len(slate.labels):
                dropped["all positive"] += 1
            else:
                kept[split_of(slate.user_id)].add((slate, before if ranking.history is None else 0))
            if ranking.user is not None:
                done = tuple((response.item_id, response.type) for response in responses)
                shown = tuple(self._parser.same_id(slate.candidates[place]) for place in slate.shown.tolist())
                happened = Happened(shown, done, slate.timestamp)
                past.add(happened)
                known = (
                    past.first(len(past))
                    if ranking.history is None
                    else (*ranking.history, *happened.events())
                )
                people[ranking.user] = UserContext(slate.user.profile, known)
            for response in responses:
                if response.type in positive:
                    positives.add(Positive(slate.user_id, response.item_id, slate.timestamp))
        return Dataset(
            name,
            self._items,
            {split: _with_histories(own, pasts) for split, own in kept.items()},
            dict(dropped),
            positives=Numbered(positives.read, range(len(positives))),
            people=people,
            interaction_types=self._types,
            findings=self._found,
        )

    def _by_time(self) -> Iterator[Ranking]:
        """Oldest first, with ages in seconds."""
        numbers = np.fromiter(self._numbers.values(), np.int64)
        for number in numbers[np.argsort(np.array(self._times)[numbers], kind="stable")].tolist():
            ranking = self._rankings.read(number)
            self._fields.in_seconds("item", ranking.sent)
            self._fields.in_seconds("context", [ranking.context])
            self._fields.in_seconds("user", [] if ranking.profile is None else [ranking.profile])
            yield ranking

    def _slate(
        self, ranking: Ranking, responses: Sequence[Response], positive: frozenset[str]
    ) -> LoggedSlate:
        """Without what the log implies of the user's history."""
        index = {ranking.candidates[place]: place for place in ranking.shown.tolist()}
        labels = np.zeros(len(ranking.candidates), np.float32)
        for response in responses:
            if response.type in positive:
                labels[index[response.item_id]] = 1.0
        profile = ranking.profile
        if profile is None:
            profile = self._profiles.get(ranking.user, {}) if ranking.user is not None else {}
        return LoggedSlate(
            request_id=ranking.id,
            user_id=f"anonymous {ranking.id}" if ranking.user is None else ranking.user,
            candidates=ranking.candidates,
            shown=ranking.shown,
            labels=labels,
            timestamp=ranking.timestamp,
            scores=ranking.scores,
            user=UserContext(profile, ranking.history or ()),
            context=ranking.context,
            features=ranking.sent if any(ranking.sent) else None,
            propensity=ranking.propensity,
            anonymous=ranking.user is None,
        )


def _with_histories(
    kept: OnDisk[tuple[LoggedSlate, int]], pasts: Mapping[str, Past]
) -> Sequence[LoggedSlate]:
    """Lists whose users' histories are what is in memory of their pasts, so many events of it."""

    def read(number: int) -> LoggedSlate:
        slate, events = kept.read(number)
        if not events:
            return slate
        return replace(slate, user=UserContext(slate.user.profile, pasts[slate.user_id].first(events)))

    return Numbered(read, range(len(kept)))


def _scored(items: Sequence[Any], scores: Mapping[str, float]) -> list[Record]:
    """The items of a ranking's line with other scores."""
    scored = []
    for item in items:
        own = dict(item) if isinstance(item, Mapping) else {"id": item}
        fields = own.get("fields") or []
        if isinstance(fields, Mapping):
            fields = [{"name": name, "value": value} for name, value in fields.items()]
        kept = [field for field in fields if field["name"] != "relevancy"]
        scored.append({**own, "fields": [*kept, {"name": "relevancy", "value": scores[as_token(own["id"])]}]})
    return scored
