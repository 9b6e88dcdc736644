"""Any log in the event format of RankLens: `item`, `user`, `ranking` and `interaction` JSON lines.

This is how users bring their own logs. One JSON object a line, gzip or plain:

    {"event": "item", "item": "i1", "fields": [{"name": "price", "value": 3.0}, ...]}
    {"event": "user", "user": "u1", "fields": [...]}                      optional, the profile
    {"event": "ranking", "id": "r1", "user": "u1", "timestamp": "1636993862000",
     "items": [{"id": "i1", "fields": [{"name": "relevancy", "value": 0.4}]}, ...], "fields": [...]}
    {"event": "interaction", "ranking": "r1", "item": "i1", "type": "click"}

Timestamps are in milliseconds. Rankings of a user are read in the order of the file, items of a ranking
in the order shown; a `relevancy` that is not the same for all items is the initial ranker's score, which
some items may lack. Other fields of a ranking's items are features that were sent with it.

Four keys of a ranking are optional. What the service knew and logged goes before what the log implies:

    "shown": [2, 0]               indices of `items` in the order shown; all of them, as they stand
    "propensity": [0.4, 0.7]      of each that was shown, given those before it; unknown
    "history": [{"item": "i7", "type": "click", "timestamp": "1636993860000"}, ...]
                                  what was known of the user's past, oldest first; the earlier rankings
    "profile": [fields]           as it was known then; that of `user`

Where a ranking says what was shown, it is kept if nothing came of it: that is then known.
"""

import gzip
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from bundle.errors import RerankerError
from bundle.features.history import Interaction, UserContext
from model.data.slate import Dataset, LoggedSlate, Positive, Split, split_of


class EventLogError(RerankerError):
    """A line of the log that cannot be read; the message names file, line and key."""


Located = tuple[str, dict[str, Any]]
"""Where an event is from, for messages, and the event."""


def read_event_log(path: Path, name: str, positive_types: Iterable[str] = ("click",)) -> Dataset:
    """A log's dataset, as `dataset_of` makes it. Raises: EventLogError."""
    return dataset_of(read_lines(path), name, positive_types)


def dataset_of(events: Iterable[Located], name: str, positive_types: Iterable[str] = ("click",)) -> Dataset:
    """Events as slates, split by user.

    Lists with no positive interaction (unless the ranking says what was shown), or with nothing else, are
    dropped (and counted), but still count as the user's history.

    Raises:
        EventLogError: a malformed event, or an interaction with an item its ranking did not show.
    """
    positive = frozenset(positive_types)
    items: dict[str, dict[str, Any]] = {}
    profiles: dict[str, dict[str, Any]] = {}
    rankings: dict[str, Located] = {}
    clicks: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for where, event in events:
        try:
            kind = event["event"]
            if kind == "item":
                items.setdefault(str(event["item"]), {}).update(_fields(event))
            elif kind == "user":
                profiles[str(event["user"])] = _fields(event)
            elif kind == "ranking":
                rankings[str(event["id"])] = where, event
            elif kind == "interaction":
                clicks[str(event["ranking"])].append((str(event["item"]), str(event["type"])))
            else:
                raise EventLogError(f"{where}: event {kind!r} is not item, user, ranking or interaction")
        except (KeyError, TypeError) as error:
            raise EventLogError(f"{where}: {error!r} in {str(event)[:120]}") from error

    slates: dict[Split, list[LoggedSlate]] = {"train": [], "validation": [], "test": []}
    dropped: Counter[str] = Counter()
    histories: dict[str, list[Interaction]] = defaultdict(list)
    people = {user_id: UserContext(profile) for user_id, profile in profiles.items()}
    latest: dict[str, tuple[UserContext, list[Interaction]]] = {}
    positives: list[Positive] = []
    for ranking_id, (where, ranking) in rankings.items():
        clicked = clicks.get(ranking_id, [])
        try:
            slate = _slate(ranking_id, ranking, clicked, positive, profiles, histories)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise EventLogError(f"{where}: {error!r} in {str(ranking)[:120]}") from error
        total = int(slate.labels.sum())
        if total == 0 and "shown" not in ranking:
            dropped["no positive"] += 1
        elif total == len(slate.labels):
            dropped["all positive"] += 1
        else:
            slates[split_of(slate.user_id)].append(slate)
        happened = [(slate.candidates[index], "impression") for index in slate.shown] + clicked
        events = [Interaction(*event, slate.timestamp) for event in happened]
        histories[slate.user_id] += events
        if slate.user_id != ranking_id:  # who has no name has the list's
            latest[slate.user_id] = slate.user, events
        positives += [
            Positive(slate.user_id, item_id, slate.timestamp) for item_id, kind in clicked if kind in positive
        ]
    for user_id, (known, since) in latest.items():
        people[user_id] = UserContext(known.profile, (*known.history, *since))
    return Dataset(name, items, slates, dict(dropped), positives=positives, people=people)


def write_with_scores(path: Path, out: Path, scores: Mapping[str, Sequence[float]]) -> None:
    """Copy a log, with other `relevancy` in the rankings that `scores` has, one a ranking's item."""
    with _opened(out, "wt") as file:
        for _, event in read_lines(path):
            own = scores.get(str(event.get("id"))) if event["event"] == "ranking" else None
            for item, score in zip(event["items"], own, strict=True) if own else ():
                fields = [field for field in item.get("fields", []) if field["name"] != "relevancy"]
                item["fields"] = [*fields, {"name": "relevancy", "value": score}]
            file.write(json.dumps(event, ensure_ascii=False) + "\n")


def _opened(path: Path, mode: Literal["rt", "wt"]) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, mode, encoding="utf-8")
    return path.open(mode, encoding="utf-8")


def read_lines(path: Path) -> Iterator[Located]:
    """The events of a file. Raises: EventLogError: a line is not JSON."""
    with _opened(path, "rt") as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                try:
                    yield f"{path}:{line}", json.loads(text)
                except json.JSONDecodeError as error:
                    raise EventLogError(f"{path}:{line}: not JSON: {error}") from error


def _slate(
    ranking_id: str,
    ranking: dict[str, Any],
    clicked: list[tuple[str, str]],
    positive: frozenset[str],
    profiles: dict[str, dict[str, Any]],
    histories: dict[str, list[Interaction]],
) -> LoggedSlate:
    user_id = str(ranking["user"])
    candidates = tuple(str(item["id"]) for item in ranking["items"])
    shown = np.array(ranking.get("shown", range(len(candidates))), np.int64)
    propensity = ranking.get("propensity")
    if propensity is not None and len(propensity) != len(shown):
        raise ValueError(f"propensity: {len(propensity)} for {len(shown)} items shown")
    index = {candidates[place]: place for place in shown.tolist()}
    labels = np.zeros(len(candidates), np.float32)
    for item_id, kind in clicked:
        if item_id not in index:
            raise EventLogError(
                f"interaction with item {item_id!r}, which ranking {ranking_id!r} did not show"
            )
        if kind in positive:
            labels[index[item_id]] = 1.0
    sent = [_fields(item) for item in ranking["items"]]
    scores = [features.pop("relevancy", None) for features in sent]
    return LoggedSlate(
        request_id=ranking_id,
        user_id=user_id,
        candidates=candidates,
        shown=shown,
        labels=labels,
        timestamp=_seconds(ranking["timestamp"]),
        scores=(
            tuple(math.nan if score is None else float(score) for score in scores)
            if len({score for score in scores if score is not None}) > 1
            else None
        ),
        user=UserContext(
            _record(ranking["profile"]) if "profile" in ranking else profiles.get(user_id, {}),
            _seen(ranking["history"]) if "history" in ranking else tuple(histories[user_id]),
        ),
        context=_fields(ranking),
        features=sent if any(sent) else None,
        propensity=None if propensity is None else np.array(propensity, np.float64),
    )


def _seen(history: Iterable[Mapping[str, Any]]) -> tuple[Interaction, ...]:
    return tuple(
        Interaction(
            str(event["item"]),
            str(event["type"]),
            _seconds(event["timestamp"]) if "timestamp" in event else None,
        )
        for event in history
    )


def _seconds(milliseconds: str | float) -> float:
    return float(milliseconds) / 1000.0


def _fields(event: Mapping[str, Any]) -> dict[str, Any]:
    return _record(event.get("fields", []))


def _record(fields: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {field["name"]: field["value"] for field in fields}
