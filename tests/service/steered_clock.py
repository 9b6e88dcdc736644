"""Time as a test moves it."""

import asyncio
from dataclasses import dataclass

TURNS = 20
"""Of the event loop, after which whoever a timer woke has done what it can without waiting."""


@dataclass
class SteeredClock:
    """A clock that stands still until it is moved. The fixture `clock` makes it the event loop's, too."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    async def advance(self, seconds: float) -> None:
        """Let so much time pass, and the timers that are due by then go off."""
        self.now += seconds
        await turns()


async def turns() -> None:
    """Let every task go on as far as it can without waiting for a thread, a socket or a timer."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
