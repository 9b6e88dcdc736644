"""How far the event loop is behind: what came meanwhile has waited in its socket, unseen."""

import asyncio
from collections.abc import Callable

BEAT_S = 0.005
TIMER_S = 0.001
"""What an event loop's timers are late on their own."""


class LoopLag:
    """`start` in a running event loop, and `stop` before its end.

    Args:
        clock: seconds.
        report: told how late each beat is.
    """

    def __init__(
        self, clock: Callable[[], float], report: Callable[[float], None] = lambda late_s: None
    ) -> None:
        self._clock, self._report = clock, report
        self._late_s, self._due = 0.0, float("inf")
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """By how much the last beat was late, or the next one is already."""
        late = max(self._late_s, self._clock() - self._due)
        return late if late > TIMER_S else 0.0

    def start(self) -> None:
        self._due = self._clock()
        self._beat()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        now = self._clock()
        self._late_s, self._due = now - self._due, now + BEAT_S
        self._report(self._late_s)
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
