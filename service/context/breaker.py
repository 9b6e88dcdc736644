"""A circuit breaker: after failures in a row, a dependency is left alone for a while.

Knows nothing of what it protects. Times are those of its clock, in seconds.
"""

from collections.abc import Callable
from time import monotonic


class CircuitBreaker:
    """Closed: calls go through. Open: none do. After `reset_s` one probe goes and decides which."""

    def __init__(self, failures: int, reset_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._most_failures, self._reset_s, self._clock = failures, reset_s, clock
        self._failures, self._blocked_until = 0, 0.0

    def allows(self) -> bool:
        """Whether a call may go now. In the open state a True is the one probe."""
        if self._failures < self._most_failures:
            return True
        now = self._clock()
        if now < self._blocked_until:
            return False
        self._blocked_until = now + self._reset_s
        return True

    def succeeded(self) -> bool:
        """Report a call that worked. Returns whether that closed the breaker."""
        closed = self._failures >= self._most_failures
        self._failures = 0
        return closed

    def failed(self) -> bool:
        """Report a call that failed. Returns whether that opened the breaker."""
        self._failures += 1
        self._blocked_until = self._clock() + self._reset_s
        return self._failures == self._most_failures
