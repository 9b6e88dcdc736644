"""Single impressions to lists: what a user was shown in one go.

For logs that record impressions one by one. Knows nothing of any log's layout.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from pydantic import Field

from bundle.features.history import Interaction, UserContext
from bundle.features.schema import Frozen
from model.data.slate import Dataset, LoggedSlate, Positive, Split, split_of


class SessionsConfig(Frozen):
    """What one list is: impressions less than `gap_s` apart, at most `max_items` of them (a longer session
    goes on as another list). One of fewer than `min_items` different items says too little to be used."""

    gap_s: Annotated[float, Field(gt=0)] = 600.0
    min_items: Annotated[int, Field(ge=2)] = 2
    max_items: Annotated[int, Field(ge=2)] = 50


class Timed(Protocol):
    """What was at a time, in seconds."""

    @property
    def timestamp(self) -> float: ...


T = TypeVar("T", bound=Timed)


class Impression(NamedTuple):
    """One item shown once. `timestamp` in seconds; `clicked` is the label."""

    user: str
    item: str
    timestamp: float
    clicked: bool


def lists_of(
    name: str,
    impressions: Iterable[Impression],
    items: Mapping[str, Mapping[str, Any]],
    profiles: Mapping[str, Mapping[str, Any]],
    sessions: SessionsConfig,
) -> Dataset:
    """Lists in order of time; an item counts once a list.

    Lists with no click, with clicks alone, or too short are dropped (and counted), but are history.
    """
    by_user: dict[str, list[Impression]] = defaultdict(list)
    for impression in impressions:
        by_user[impression.user].append(impression)
    slates: dict[Split, list[LoggedSlate]] = {"train": [], "validation": [], "test": []}
    dropped: Counter[str] = Counter()
    for user, shown in by_user.items():
        shown.sort(key=lambda impression: impression.timestamp)
        history: list[Interaction] = []
        for session in cut(shown, sessions.gap_s, sessions.max_items):
            clicks: dict[str, bool] = {}
            for impression in session:
                clicks[impression.item] = clicks.get(impression.item, False) or impression.clicked
            reason = _unusable(list(clicks.values()), sessions.min_items)
            if reason:
                dropped[reason] += 1
            else:
                start = session[0].timestamp
                slates[split_of(user)].append(
                    LoggedSlate(
                        request_id=f"{user}-{start:.0f}",
                        user_id=user,
                        candidates=tuple(clicks),
                        shown=np.arange(len(clicks)),
                        labels=np.array(list(clicks.values()), np.float32),
                        timestamp=start,
                        user=UserContext(profiles.get(user, {}), tuple(history)),
                    )
                )
            for impression in session:
                kinds = ("impression", "click") if impression.clicked else ("impression",)
                history += [Interaction(impression.item, kind, impression.timestamp) for kind in kinds]
    positives = [
        Positive(user, impression.item, impression.timestamp)
        for user, shown in by_user.items()
        for impression in shown
        if impression.clicked
    ]
    return Dataset(name, items, slates, dict(dropped), positives=positives)


def _unusable(clicks: list[bool], min_items: int) -> str | None:
    if len(clicks) < min_items:
        return f"under {min_items} items"
    return None if any(clicks) and not all(clicks) else "all positive" if all(clicks) else "no positive"


def cut(rows: Iterable[T], gap_s: float, max_items: int) -> list[list[T]]:
    """Rows in order of time, cut where the next is `gap_s` or more later, and after `max_items`."""
    found: list[list[T]] = []
    for row in rows:
        current = found[-1] if found else []
        if current and row.timestamp - current[-1].timestamp < gap_s and len(current) < max_items:
            current.append(row)
        else:
            found.append([row])
    return found
