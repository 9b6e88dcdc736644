"""Single impressions to lists: what a user was shown in one go.

For logs that record impressions one by one. Knows nothing of any log's layout.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from bundle.features.history import Interaction, UserContext
from model.data.slate import Dataset, LoggedSlate, Split, split_of

LONGEST = 50
"""Impressions of a list at most; a longer session goes on as another list."""


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
    gap_s: float,
) -> Dataset:
    """Lists of impressions less than `gap_s` apart, in order of time; an item counts once a list.

    Lists with no click, with clicks alone, or of one item are dropped (and counted), but are history.
    """
    by_user: dict[str, list[Impression]] = defaultdict(list)
    for impression in impressions:
        by_user[impression.user].append(impression)
    slates: dict[Split, list[LoggedSlate]] = {"train": [], "validation": [], "test": []}
    dropped: Counter[str] = Counter()
    for user, shown in by_user.items():
        shown.sort(key=lambda impression: impression.timestamp)
        history: list[Interaction] = []
        for session in _sessions(shown, gap_s):
            clicks: dict[str, bool] = {}
            for impression in session:
                clicks[impression.item] = clicks.get(impression.item, False) or impression.clicked
            reason = _unusable(list(clicks.values()))
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
    return Dataset(name, items, slates, dict(dropped))


def _unusable(clicks: list[bool]) -> str | None:
    if len(clicks) < 2:
        return "one item"
    return None if any(clicks) and not all(clicks) else "all positive" if all(clicks) else "no positive"


def _sessions(shown: list[Impression], gap_s: float) -> list[list[Impression]]:
    sessions: list[list[Impression]] = []
    for impression in shown:
        current = sessions[-1] if sessions else []
        if current and impression.timestamp - current[-1].timestamp < gap_s and len(current) < LONGEST:
            current.append(impression)
        else:
            sessions.append([impression])
    return sessions
