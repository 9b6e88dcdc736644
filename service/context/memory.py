"""User contexts in the process: the embedded default for one worker. Lost at restart.

Bounded in users (least recently used go first), recommendations (oldest go first), events a user, and time.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from bundle.features.history import Interaction, UserContext
from service.context.store import StoreLimits
from service.errors import UnknownRecommendationError


@dataclass(slots=True)
class _Kept:
    context: UserContext
    expires_at: float


@dataclass(slots=True)
class _Recommendation:
    user_id: str | None
    expires_at: float


class MemoryContextStore:
    """A `ContextStore` in two dictionaries. Every method runs without yielding, so each is atomic."""

    waits = False

    def __init__(
        self,
        limits: StoreLimits,
        *,
        max_users: int,
        max_recommendations: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._limits, self._clock = limits, clock
        self._max_users, self._max_recommendations = max_users, max_recommendations
        self._users: OrderedDict[str, _Kept] = OrderedDict()  # least recently used first
        self._recommendations: OrderedDict[str, _Recommendation] = OrderedDict()  # oldest first

    async def recommend(self, recommendation_id: str, user_id: str | None) -> UserContext | None:
        self._recommendations[recommendation_id] = _Recommendation(
            user_id, self._clock() + self._limits.recommendation_ttl_s
        )
        if len(self._recommendations) > self._max_recommendations:
            self._recommendations.popitem(last=False)
        return None if user_id is None else await self.read(user_id)

    async def append(self, recommendation_id: str, events: Sequence[Interaction]) -> int:
        recommendation = self._recommendations.get(recommendation_id)
        if recommendation is None or recommendation.expires_at <= self._clock():
            raise UnknownRecommendationError()
        user_id = recommendation.user_id
        if user_id is None:
            return 0
        context = await self.read(user_id) or UserContext()
        await self.replace(user_id, UserContext(context.profile, (*context.history, *events)))
        return len(events)

    async def read(self, user_id: str) -> UserContext | None:
        kept = self._users.get(user_id)
        if kept is None:
            return None
        if kept.expires_at <= self._clock():
            del self._users[user_id]
            return None
        self._users.move_to_end(user_id)
        return kept.context

    async def replace(self, user_id: str, context: UserContext) -> None:
        newest = UserContext(context.profile, context.history[-self._limits.max_history :])
        self._users[user_id] = _Kept(newest, self._clock() + self._limits.context_ttl_s)
        self._users.move_to_end(user_id)
        if len(self._users) > self._max_users:
            self._users.popitem(last=False)

    async def forget(self, user_id: str) -> None:
        self._users.pop(user_id, None)
        theirs = [key for key, made in self._recommendations.items() if made.user_id == user_id]
        for key in theirs:
            del self._recommendations[key]

    async def close(self) -> None:
        self._users.clear()
        self._recommendations.clear()
