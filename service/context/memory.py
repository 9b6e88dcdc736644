"""User contexts in the process: the embedded default for one worker. Lost at restart.

Bounded in users and bytes (least recently used go first), recommendations (oldest go first), events a user,
and time.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from sys import getsizeof
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from bundle.features.history import Interaction, UserContext
from service.context.encoding import newest
from service.context.store import Appended, Event, Recommended, StoreLimits, appended, listed, marks_of
from service.errors import UnknownRecommendationError


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Person:
    """A user, as long as anything is known of, or was recommended to, that user.

    Attributes:
        event_ids: digests of the latest, oldest first.
        size: bytes of the context and the event ids.
        forgotten: recommendations know this person, but nobody else does, and there is nothing in it.
    """

    user_id: str
    context: UserContext | None = None
    expires_at: float = 0.0
    event_ids: dict[bytes, None] = field(default_factory=dict)
    event_ids_expire_at: float = 0.0
    size: int = 0
    forgotten: bool = False

    def empty(self) -> None:
        self.context, self.event_ids, self.size = None, {}, 0


@dataclass(slots=True)
class _Recommendation:
    person: _Person
    expires_at: float
    marks: bytes


class MemoryContextStore:
    """A `ContextStore` in three dictionaries. Every method runs without yielding, so each is atomic."""

    def __init__(
        self,
        limits: StoreLimits,
        *,
        max_users: int,
        max_bytes: int,
        max_recommendations: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._limits, self._clock = limits, clock
        self._max_users, self._max_bytes, self._bytes = max_users, max_bytes, 0
        self._max_recommendations = max_recommendations
        self._people: WeakValueDictionary[str, _Person] = WeakValueDictionary()
        self._known: OrderedDict[str, _Person] = OrderedDict()  # with a context; least recently used first
        self._recommendations: OrderedDict[str, _Recommendation] = OrderedDict()  # oldest first

    @property
    def answers(self) -> bool:
        return True

    async def recommend(self, user_id: str, within_s: float, items: Sequence[str] = ()) -> Recommended:
        context = await self.read(user_id)
        recommendation_id = os.urandom(16).hex()
        expires_at = self._clock() + self._limits.recommendation_ttl_s
        marks = marks_of(items, self._limits.max_listed_items)
        self._recommendations[recommendation_id] = _Recommendation(self._person(user_id), expires_at, marks)
        if len(self._recommendations) > self._max_recommendations:
            self._recommendations.popitem(last=False)
        return Recommended(recommendation_id, context)

    async def append(self, recommendation_id: str, events: Sequence[Event]) -> Appended:
        made = self._recommendations.get(recommendation_id)
        if made is None or made.expires_at <= self._clock() or made.person.forgotten:
            raise UnknownRecommendationError()
        kept = listed(made.marks, events)
        repeated = await self._append(made.person, [events[index] for index in kept])
        return appended(made.person.user_id, len(events), kept, repeated)

    async def add(self, user_id: str, events: Sequence[Event]) -> Appended:
        repeated = await self._append(self._person(user_id), events)
        return appended(user_id, len(events), range(len(events)), repeated)

    async def _append(self, person: _Person, events: Sequence[Event]) -> list[int]:
        """Returns which of the events are not new."""
        now = self._clock()
        if person.event_ids_expire_at <= now:
            person.event_ids = {}
        fresh, repeated = [], []
        for index, event in enumerate(events):
            if event.id is not None:
                digest = blake2b(event.id.encode(), digest_size=16).digest()
                if digest in person.event_ids:
                    repeated.append(index)
                    continue
                person.event_ids[digest] = None
            fresh.append(event.interaction)
        while len(person.event_ids) > self._limits.max_event_ids:
            del person.event_ids[next(iter(person.event_ids))]
        if fresh:
            person.event_ids_expire_at = now + self._limits.recommendation_ttl_s
            context = await self.read(person.user_id) or UserContext()
            self._keep(person, UserContext(context.profile, (*context.history, *fresh)))
        return repeated

    async def read(self, user_id: str) -> UserContext | None:
        person = self._known.get(user_id)
        if person is None:
            return None
        if person.expires_at <= self._clock():
            self._drop(person)
            return None
        self._known.move_to_end(user_id)
        return person.context

    async def replace(self, user_id: str, context: UserContext) -> None:
        self._keep(self._person(user_id), context)

    async def forget(self, user_id: str) -> None:
        person = self._people.pop(user_id, None)
        if person is not None:
            self._drop(person)
            person.forgotten, person.user_id = True, ""

    async def close(self) -> None:
        self._known.clear()
        self._recommendations.clear()

    def _person(self, user_id: str) -> _Person:
        person = self._people.get(user_id)
        if person is None:
            person = self._people[user_id] = _Person(user_id)
        return person

    def _keep(self, person: _Person, context: UserContext) -> None:
        person.context = UserContext(context.profile, newest(context.history, self._limits))
        person.expires_at = self._clock() + self._limits.context_ttl_s
        self._bytes -= person.size
        person.size = _size(person.user_id, person.context) + 150 * len(person.event_ids)
        self._bytes += person.size
        self._known[person.user_id] = person
        self._known.move_to_end(person.user_id)
        while len(self._known) > self._max_users or self._bytes > self._max_bytes:
            self._drop(next(iter(self._known.values())))

    def _drop(self, person: _Person) -> None:
        """Of recommendations the person remains known."""
        self._known.pop(person.user_id, None)
        self._bytes -= person.size
        person.empty()


def _size(user_id: str, context: UserContext) -> int:
    """Bytes of a context in memory, what its strings may share counted too."""
    profile = sum(map(_size_of_value, (*context.profile, *context.profile.values())))
    return 800 + getsizeof(user_id) + getsizeof(context.profile) + profile + _size_of_events(context.history)


def _size_of_events(events: Iterable[Interaction]) -> int:
    return sum(
        getsizeof(event)
        + 56
        + getsizeof(event.item_id)
        + getsizeof(event.type)
        + _size_of_features(event.features)
        for event in events
    )


def _size_of_features(features: Mapping[str, Any] | None) -> int:
    return getsizeof(features) + sum(map(_size_of_value, (*features, *features.values()))) if features else 0


def _size_of_value(value: Any) -> int:
    return getsizeof(value) + (sum(map(getsizeof, value)) if isinstance(value, list) else 0)
