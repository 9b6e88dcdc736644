"""What a context store promises. Two keep it: `memory` and `redis`.

A *recommendation* is the record that a list was made for a user, so that feedback can name the list and
never the person. It has a mark of each item, so that feedback on others is told. Contexts expire after their
last write, recommendations after their making. Nobody is asked for lists of anonymous users: their ids say so
themselves.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import pack, unpack
from typing import Literal, NamedTuple, Protocol, Self
from zlib import crc32

from bundle.features.history import Interaction, UserContext
from service.settings import Settings

Fault = Literal["corrupt", "too_large", "refused_write"]
"""What may be wrong with what is kept of one user: it cannot be read, or is beyond the bounds, and is as good
as lost; or the store refuses writes, but was read."""

ANONYMOUS_ID = "anonymous-"
_ANONYMOUS_ID = re.compile(ANONYMOUS_ID + "[0-9a-f]{32}")


def anonymous_id() -> str:
    """The id of a recommendation that nothing is kept of."""
    return ANONYMOUS_ID + os.urandom(16).hex()


def is_anonymous(recommendation_id: str) -> bool:
    return _ANONYMOUS_ID.fullmatch(recommendation_id) is not None


class StoreLimits(NamedTuple):
    """Bounds of what is kept. Bytes are of JSON."""

    context_ttl_s: float
    recommendation_ttl_s: float
    max_history: int
    max_history_bytes: int = 65_536
    max_profile_bytes: int = 32_768
    max_event_ids: int = 1000
    max_listed_items: int = 500

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(**{name: getattr(settings, name) for name in cls._fields})


IgnoredReason = Literal["duplicate", "not_in_list"]


class Event(NamedTuple):
    """Something a user did.

    Attributes:
        id: of two events of a user with the same one only the first counts.
    """

    interaction: Interaction
    id: str | None = None


class Recommended(NamedTuple):
    """What a recommendation found and left.

    Attributes:
        id: for feedback; None if the store refused to record it.
        context: the user's, None if unknown.
    """

    id: str | None
    context: UserContext | None


class Appended(NamedTuple):
    """What became of a user's events: how many were added, and why others were not, by their index."""

    applied: int
    ignored: Mapping[int, IgnoredReason]
    user_id: str


class ContextStore(Protocol):
    """User contexts and recommendations. Every method raises `StoreUnavailableError` and may be cancelled.

    **Reads follow writes.** A `recommend` or `read` that starts after a write returned sees it: writes
    are atomic for a user, and reads go where writes go, never to a replica.

    **Events count once.** An event whose id is among the `max_event_ids` latest of its user, the last of them
    not longer ago than recommendations are kept, is a duplicate: also when the append before it failed.

    **Forgetting is whole.** When `forget` returned, nothing in the store names the person, and whatever else
    the store loses, in whatever order, feedback on earlier recommendations does not bring the person back.
    """

    @property
    def answers(self) -> bool:
        """Whether the store did when it was last asked; nobody is asked now."""
        ...

    async def recommend(self, user_id: str, within_s: float, items: Sequence[str] = ()) -> Recommended:
        """Record a recommendation and read its user's context, in one go.

        Args:
            items: what may be recommended, by id. Of none, or more than `max_listed_items`, no mark is kept,
                and feedback may name any item.
            within_s: then `StoreUnavailableError` is raised at the latest.
        """
        ...

    async def append(self, recommendation_id: str, events: Sequence[Event]) -> Appended:
        """Add events to the end of the history of the recommendation's user.

        Raises:
            UnknownRecommendationError: nothing was added.
        """
        ...

    async def add(self, user_id: str, events: Sequence[Event]) -> Appended:
        """Add events to the end of a user's history, known or not."""
        ...

    async def read(self, user_id: str) -> UserContext | None:
        """A user's context, None if unknown."""
        ...

    async def replace(self, user_id: str, context: UserContext) -> None:
        """Put a context in place of whatever was there; the newest events are kept."""
        ...

    async def forget(self, user_id: str) -> None:
        """Delete everything of a person."""
        ...

    async def close(self) -> None: ...


Report = Callable[[Fault], None]
"""Told of every fault."""


def marks_of(items: Sequence[str], most: int) -> bytes:
    """Two bytes for each item, none of more than `most`. Of others, N in 65,536 have the mark of one."""
    if len(items) > most:
        return b""
    return pack(f"<{len(items)}H", *[crc32(item.encode()) & 0xFFFF for item in items])


def listed(marks: bytes, events: Sequence[Event]) -> list[int]:
    """Indices of the events whose items have a mark; of all events if there are no marks."""
    if not marks:
        return [*range(len(events))]
    known = {*unpack(f"<{len(marks) // 2}H", marks)}
    items = [event.interaction.item_id for event in events]
    return [index for index, item in enumerate(items) if crc32(item.encode()) & 0xFFFF in known]


def appended(user_id: str, count: int, listed: Sequence[int], duplicates: Iterable[int]) -> Appended:
    """
    Args:
        user_id: whose events they are.
        count: all events.
        listed: indices of those whose items are in the list.
        duplicates: which of the latter were applied before, as indices of `listed`.
    """
    repeated = {listed[index] for index in duplicates}
    ignored: dict[int, IgnoredReason] = dict.fromkeys(range(count), "not_in_list")
    for index in listed:
        del ignored[index]
    ignored.update(dict.fromkeys(repeated, "duplicate"))
    return Appended(count - len(ignored), dict(sorted(ignored.items())), user_id)
