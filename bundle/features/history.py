"""What is known of a user: a profile and past interactions, oldest first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interaction(NamedTuple):  # a request makes dozens, and a frozen dataclass takes thrice as long
    """One event between a user and an item. `timestamp` in unix seconds; order, not time, decides. `features`
    are raw ones of an item that a catalogue may lack."""

    item_id: str
    type: str
    timestamp: float | None = None
    features: Mapping[str, Any] | None = None


class Seen(NamedTuple):
    """A history as a model takes it: collapsed, oldest first, and looked up in its catalogue. `rows` are
    `[H] int64`, `liked` `[H] bool`."""

    rows: NDArray[np.int64]
    liked: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class UserContext:
    """Everything the model may know of a user. The empty one is an anonymous user.

    `seen` stands for the history where those of many were looked up together (`bundle.features.seen`).
    """

    profile: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Interaction] = ()
    seen: Seen | None = None

    def without_features(self) -> "UserContext":
        """The same events of the same items, of which nothing is said."""
        told = tuple(Interaction(one.item_id, one.type, one.timestamp) for one in self.history)
        return UserContext({}, told, self.seen)


ANONYMOUS = UserContext()

IMPRESSION = "impression"
"""The type of events that say that an item was seen."""


def collapse(
    history: Iterable[Interaction], positive_types: Iterable[str], most: int
) -> list[tuple[str, bool]]:
    """One `(item_id, liked)` an item, oldest first, the `most` latest kept.

    An impression followed by a positive event of the same item counts once, as liked. Types that are
    neither positive nor `IMPRESSION` mean nothing to this model and are ignored.
    """
    positive = frozenset(positive_types)
    latest: dict[str, bool] = {}
    for event in history:
        item_id, kind = event.item_id, event.type
        if kind in positive or kind == IMPRESSION:
            latest[item_id] = latest.pop(item_id, False) or kind in positive
    return list(latest.items())[-most:]
