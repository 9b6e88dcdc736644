"""What is known of a user: a profile and past interactions, oldest first. Standard library only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Interaction(NamedTuple):  # a request makes dozens, and a frozen dataclass takes thrice as long
    """One event between a user and an item. `timestamp` in unix seconds; order, not time, decides. `features`
    are raw ones of an item that a catalogue may lack."""

    item_id: str
    type: str
    timestamp: float | None = None
    features: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class UserContext:
    """Everything the model may know of a user. The empty one is an anonymous user."""

    profile: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Interaction] = ()

    def without_features(self) -> "UserContext":
        """The same events of the same items, of which nothing is said."""
        return UserContext(
            {}, tuple(Interaction(one.item_id, one.type, one.timestamp) for one in self.history)
        )


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
