"""What a context store promises. Two keep it: `memory` and `redis`.

A *recommendation* is the record that a list was made for a user, so that feedback can name the list and
never the person. Contexts expire after their last write, recommendations after their making.
"""

from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from bundle.features.history import Interaction, UserContext


class StoreLimits(NamedTuple):
    """Bounds of what is kept."""

    context_ttl_s: float
    recommendation_ttl_s: float
    max_history: int


class ContextStore(Protocol):
    """User contexts and recommendations. Every method raises `StoreUnavailableError` and may be cancelled.

    **Guarantee.** A `recommend` or `read` that starts after a write returned sees that write: writes are
    atomic for a user, and reads go where writes go, never to a replica.

    Attributes:
        waits: a call may take time; else it returns without ever yielding to the event loop.
    """

    waits: bool

    def recommend(
        self, recommendation_id: str, user_id: str | None
    ) -> Coroutine[Any, Any, UserContext | None]:
        """Record a recommendation and read its user's context, None if unknown or anonymous, in one go."""
        ...

    async def append(self, recommendation_id: str, events: Sequence[Interaction]) -> int:
        """Add events to the end of the history of the recommendation's user.

        Returns:
            How many were added: all, or 0 if the recommendation was anonymous.

        Raises:
            UnknownRecommendationError: nothing was added.
        """
        ...

    async def read(self, user_id: str) -> UserContext | None:
        """A user's context, None if unknown."""
        ...

    async def replace(self, user_id: str, context: UserContext) -> None:
        """Put a context in place of whatever was there; the newest events are kept."""
        ...

    async def forget(self, user_id: str) -> None:
        """Delete everything of a person. Feedback on earlier recommendations no longer applies."""
        ...

    async def close(self) -> None: ...
