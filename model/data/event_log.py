"""Any log in the event format of RankLens: `item`, `user`, `ranking` and `interaction` JSON lines.

This is how users bring their own logs. One JSON object a line, gzip or plain:

    {"event": "item", "item": "i1", "fields": [{"name": "price", "value": 3.0}, ...]}
    {"event": "user", "user": "u1", "fields": [...]}                      optional, the profile
    {"event": "ranking", "id": "r1", "user": "u1", "timestamp": "1636993862000",
     "items": [{"id": "i1", "fields": [{"name": "relevancy", "value": 0.4}]}, ...], "fields": [...]}
    {"event": "interaction", "ranking": "r1", "item": "i1", "type": "click"}

Timestamps are in milliseconds. Rankings of a user are read in the order of the file, items of a ranking
in the order shown; a `relevancy` that is not the same for all items is the initial ranker's score, which
some items may lack.
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
from model.data.slate import Dataset, LoggedSlate, Split, split_of


class EventLogError(RerankerError):
    """A line of the log that cannot be read; the message names file, line and key."""


def read_event_log(path: Path, name: str, positive_types: Iterable[str] = ("click",)) -> Dataset:
    """Read a log into slates, split by user.

    Lists with no positive interaction, or with nothing else, are dropped (and counted), but still count
    as the user's history.

    Raises:
        EventLogError: a malformed line, or an interaction with an item its ranking did not show.
    """
    positive = frozenset(positive_types)
    items: dict[str, dict[str, Any]] = {}
    profiles: dict[str, dict[str, Any]] = {}
    rankings: dict[str, dict[str, Any]] = {}
    clicks: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for line, event in _events(path):
        try:
            kind = event["event"]
            if kind == "item":
                items[str(event["item"])] = _fields(event)
            elif kind == "user":
                profiles[str(event["user"])] = _fields(event)
            elif kind == "ranking":
                rankings[str(event["id"])] = event
            elif kind == "interaction":
                clicks[str(event["ranking"])].append((str(event["item"]), str(event["type"])))
            else:
                raise EventLogError(
                    f"{path}:{line}: event {kind!r} is not item, user, ranking or interaction"
                )
        except (KeyError, TypeError) as error:
            raise EventLogError(f"{path}:{line}: {error!r} in {str(event)[:120]}") from error

    slates: dict[Split, list[LoggedSlate]] = {"train": [], "validation": [], "test": []}
    dropped: Counter[str] = Counter()
    histories: dict[str, list[Interaction]] = defaultdict(list)
    for ranking_id, ranking in rankings.items():
        slate = _slate(ranking_id, ranking, clicks.get(ranking_id, []), positive, profiles, histories)
        total = int(slate.labels.sum())
        if total == 0:
            dropped["no positive"] += 1
        elif total == len(slate.labels):
            dropped["all positive"] += 1
        else:
            slates[split_of(slate.user_id)].append(slate)
        histories[slate.user_id] += [
            Interaction(item_id, "impression", slate.timestamp) for item_id in slate.candidates
        ]
        histories[slate.user_id] += [
            Interaction(item_id, kind, slate.timestamp) for item_id, kind in clicks.get(ranking_id, [])
        ]
    return Dataset(name, items, slates, dict(dropped))


def write_with_scores(path: Path, out: Path, scores: Mapping[str, Sequence[float]]) -> None:
    """Copy a log, with other `relevancy` in the rankings that `scores` has, one a ranking's item."""
    with _opened(out, "wt") as file:
        for _, event in _events(path):
            own = scores.get(str(event.get("id"))) if event["event"] == "ranking" else None
            for item, score in zip(event["items"], own, strict=True) if own else ():
                fields = [field for field in item.get("fields", []) if field["name"] != "relevancy"]
                item["fields"] = [*fields, {"name": "relevancy", "value": score}]
            file.write(json.dumps(event, ensure_ascii=False) + "\n")


def _opened(path: Path, mode: Literal["rt", "wt"]) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, mode, encoding="utf-8")
    return path.open(mode, encoding="utf-8")


def _events(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with _opened(path, "rt") as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                try:
                    yield line, json.loads(text)
                except json.JSONDecodeError as error:
                    raise EventLogError(f"{path}:{line}: not JSON: {error}") from error


def _fields(event: dict[str, Any]) -> dict[str, Any]:
    return {field["name"]: field["value"] for field in event.get("fields", [])}


def _slate(
    ranking_id: str,
    ranking: dict[str, Any],
    clicked: list[tuple[str, str]],
    positive: frozenset[str],
    profiles: dict[str, dict[str, Any]],
    histories: dict[str, list[Interaction]],
) -> LoggedSlate:
    user_id = str(ranking["user"])
    shown = tuple(str(item["id"]) for item in ranking["items"])
    index = {item_id: i for i, item_id in enumerate(shown)}
    labels = np.zeros(len(shown), np.float32)
    for item_id, kind in clicked:
        if item_id not in index:
            raise EventLogError(
                f"interaction with item {item_id!r}, which ranking {ranking_id!r} did not show"
            )
        if kind in positive:
            labels[index[item_id]] = 1.0
    sent = [_fields(item).get("relevancy") for item in ranking["items"]]
    scores = tuple(math.nan if score is None else float(score) for score in sent)
    return LoggedSlate(
        request_id=ranking_id,
        user_id=user_id,
        candidates=shown,
        shown=np.arange(len(shown)),
        labels=labels,
        timestamp=float(ranking["timestamp"]) / 1000.0,
        scores=scores if len({score for score in sent if score is not None}) > 1 else None,
        user=UserContext(profiles.get(user_id, {}), tuple(histories[user_id])),
        context=_fields(ranking),
    )
