"""A circuit breaker: when too many of the last calls failed, a dependency is left alone for a while.

Knows nothing of what it protects. Times are those of its clock, in seconds.
"""

from collections import deque
from collections.abc import Callable
from math import ceil
from time import monotonic


class CircuitBreaker:
    """Closed: calls go through. Open: none do. After `reset_s` one probe goes and decides which."""

    def __init__(
        self, calls: int, error_rate: float, reset_s: float, clock: Callable[[], float] = monotonic
    ) -> None:
        """
        Args:
            calls: how many of the last ones are looked at; fewer never open it.
            error_rate: share of failures among them at which it opens, above 0 and at most 1.
        """
        self._opens_at, self._reset_s, self._clock = ceil(calls * error_rate), reset_s, clock
        self._failed: deque[bool] = deque(maxlen=calls)
        self._open, self._blocked_until = False, 0.0

    @property
    def is_open(self) -> bool:
        return self._open

    def allows(self) -> bool:
        """Whether a call may go now. In the open state a True is the one probe."""
        if not self._open:
            return True
        now = self._clock()
        if now < self._blocked_until:
            return False
        self._blocked_until = now + self._reset_s
        return True

    def succeeded(self) -> bool:
        """Report a call that worked. Returns whether that closed the breaker."""
        closed = self._open
        if closed:
            self._open = False
            self._failed.clear()
        self._failed.append(False)
        return closed

    def failed(self) -> bool:
        """Report a call that failed. Returns whether that opened the breaker."""
        self._failed.append(True)
        if not self._open and self._failed.count(True) < self._opens_at:
            return False
        opened = not self._open
        self._open = True
        self._blocked_until = self._clock() + self._reset_s
        return opened
