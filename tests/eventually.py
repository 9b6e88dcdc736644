"""Waiting for what comes about by itself, in a process or a thread: as short as it takes."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from time import monotonic, sleep

INTERVAL_S = 0.01


async def eventually(condition: Callable[[], bool | Awaitable[bool]], within_s: float = 60.0) -> None:
    """Ask until the condition holds; the time is how long a failing test takes, no measure of anything."""
    give_up = monotonic() + within_s
    while True:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        assert monotonic() < give_up, f"not within {within_s:g} s"
        await asyncio.to_thread(sleep, INTERVAL_S)  # by no timer of the loop, whose time may be steered
