"""Refusals take turns, so that the event loop has time for whom it can still answer.

Who is refused asks again, and beyond saturation refusing everybody at once takes all the time there is: of
200 callers with deadlines of 20 ms none would be answered (docs/decisions/admission.md).
"""

import asyncio
from collections import deque

from service.serving.occupancy import Occupancy

AN_ANSWER = 0.5
"""Refusals for each answer that is sent, while there is anybody to answer."""

A_TURN = 4
"""Refusals a turn of the event loop while there is nobody; those saved up are no more than that, either."""


class Refusals:
    """Of one event loop, whose `Occupancy` tells of answers. An idle one refuses at once."""

    def __init__(self, occupancy: Occupancy) -> None:
        self._occupancy, self._left = occupancy, float(A_TURN)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turning = False
        occupancy.on_answer.append(self._answered)

    async def turn(self) -> None:
        """Wait until it is this request's turn."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._go_on(0.0)
        await waiting

    def _answered(self) -> None:
        self._go_on(AN_ANSWER)

    def _next(self) -> None:
        self._turning = False
        self._go_on(0.0 if self._occupancy.count else A_TURN)

    def _go_on(self, more: float) -> None:
        self._left = min(self._left + more, A_TURN)
        while self._waiting and self._left >= 1.0:
            waiting = self._waiting.popleft()
            if not waiting.done():  # its caller may have left
                waiting.set_result(None)
                self._left -= 1.0
        if self._left < A_TURN and not self._turning and not self._occupancy.count:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._next)
