"""Refusals take turns, so that the event loop has time for whom it can still answer.

Who is refused asks again, and beyond saturation refusing everybody at once takes all the time there is: of
200 callers with deadlines of 20 ms none would be answered (docs/decisions/admission.md).
"""

import asyncio
from collections import deque


class Refusals:
    """So many a turn of the event loop: at once while it is idle, since its turns are then short."""

    def __init__(self, a_turn: int) -> None:
        self._a_turn = self._left = a_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turning = False

    async def turn(self) -> None:
        """Wait until it is this request's turn."""
        loop = asyncio.get_running_loop()
        if not self._turning:
            self._turning = True
            loop.call_soon(self._next)
        if self._left > 0:
            self._left -= 1
            return
        waiting = loop.create_future()
        self._waiting.append(waiting)
        await waiting

    def _next(self) -> None:
        self._left = self._a_turn
        while self._waiting and self._left > 0:
            waiting = self._waiting.popleft()
            if not waiting.done():  # its caller may have left
                waiting.set_result(None)
                self._left -= 1
        self._turning = self._left < self._a_turn
        if self._turning:
            asyncio.get_running_loop().call_soon(self._next)
