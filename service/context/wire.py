"""One exchange with Redis at a time and connection: how long it is waited for, and whose fault it was.

Time counts only while this process could have noticed an answer: an event loop that was stalled, or had no
CPU, finds answers waiting and timers over, which is no fault of Redis. Knows no command.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from math import inf
from typing import Any, TypeVar

from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.context.breaker import CircuitBreaker
from service.errors import StoreNotAskedError, StoreUnavailableError

Returned = TypeVar("Returned")

STEPS = 4
"""In how many parts a timeout is waited for. One that lasted twice its time does not count."""

LONGEST_S, LONGEST_TIMEOUTS = 1.0, 4
"""How long an answer is waited for however late the event loop is: a time, or so many timeouts."""

OUTAGES = (
    RedisConnectionError,
    RedisTimeoutError,
    OSError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    RedisClusterException,
)
"""What is as bad as no answer."""

logger = logging.getLogger(__name__)


class Wire:
    """Gives up quickly: short timeouts, no retry, and a circuit breaker."""

    def __init__(
        self,
        breaker: CircuitBreaker,
        *,
        connections: int,
        pool_wait_s: float,
        answer_s: float,
        connect_s: float,
    ) -> None:
        """
        Args:
            connections: most exchanges at once.
            answer_s: longest wait for an answer, `connect_s` more when a connection must be opened first.
        """
        self._breaker, self._free = breaker, asyncio.Semaphore(connections)
        self._pool_wait_s, self._answer_s, self._connect_s = pool_wait_s, answer_s, connect_s
        self._running, self._opened = 0, 0  # the latter is how many connections are open, or more
        self._left_alone: set[asyncio.Task[Any]] = set()

    async def exchange(
        self, call: Callable[[], Coroutine[Any, Any, Returned]], within_s: float = inf
    ) -> Returned:
        """The answer to a call.

        Args:
            within_s: then the caller has no time left. The call goes on by itself, for cutting a socket read
                costs its connection, and its end is Redis's praise or blame as any other.

        Raises:
            StoreUnavailableError: Redis did not answer, or answered with an error.
            StoreNotAskedError: it had no chance to.
        """
        if not self._breaker.allows():
            raise StoreUnavailableError("Redis is left alone after failing repeatedly")
        loop = asyncio.get_running_loop()
        asked = loop.time()
        await self._connection(min(self._pool_wait_s, within_s))
        timeout_s = self._answer_s
        self._running += 1
        if self._running > self._opened:
            self._opened = self._running
            timeout_s += self._connect_s
        longest_s = max(LONGEST_S, LONGEST_TIMEOUTS * timeout_s)
        task = loop.create_task(call())
        task.add_done_callback(self._ended)
        steps = await _wait(task, timeout_s / STEPS, STEPS, asked + min(within_s, longest_s))
        if steps and not task.done():
            self._leave(self._settle(task, timeout_s / STEPS, steps, longest_s))
            raise StoreNotAskedError("no time is left to wait for Redis")
        return self._judge(task)

    @property
    def answers(self) -> bool:
        """Whether Redis did, when last asked."""
        return not self._breaker.is_open

    async def close(self) -> None:
        """Wait for what was left to end by itself."""
        await asyncio.gather(*self._left_alone, return_exceptions=True)

    async def _connection(self, wait_s: float) -> None:
        if not self._free.locked():  # what is free is had at once, without a timer
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise StoreNotAskedError("no connection to Redis is free") from None

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._running -= 1
        self._free.release()
        if not task.cancelled():
            task.exception()  # looked at, should nobody else

    def _leave(self, rest: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(rest)
        self._left_alone.add(task)
        task.add_done_callback(self._left_alone.discard)

    async def _settle(self, task: "asyncio.Task[Any]", step_s: float, steps: int, longest_s: float) -> None:
        await _wait(task, step_s, steps, asyncio.get_running_loop().time() + longest_s)
        with suppress(StoreUnavailableError):
            self._judge(task)

    def _judge(self, task: "asyncio.Task[Returned]") -> Returned:
        """What an exchange ended in; without an end, its end.

        Raises:
            StoreUnavailableError: in nothing.
        """
        try:
            if not task.done():
                task.cancel()
                raise RedisTimeoutError()
            answer = task.result()
        except OUTAGES as error:
            self._opened = 0
            if self._breaker.failed():
                logger.warning("Redis is left alone: %s", type(error).__name__)
            raise StoreUnavailableError("Redis does not answer") from error
        except ResponseError as error:
            logger.warning("Redis refused a command: %s", type(error).__name__)
            raise StoreUnavailableError("Redis refused a command") from error
        except Exception as error:
            logger.error("unexpected error of the Redis client", exc_info=error)
            raise StoreUnavailableError("Redis cannot be asked") from error
        if self._breaker.succeeded():
            logger.warning("Redis answers again")
        return answer


async def _wait(task: "asyncio.Task[Any]", step_s: float, steps: int, end: float) -> int:
    """Wait for a task, but not beyond `end`. Returns how many of the steps are left."""
    loop = asyncio.get_running_loop()
    while steps and not task.done():
        now = loop.time()
        if now >= end:
            break
        await asyncio.wait((task,), timeout=min(step_s, end - now))
        if loop.time() - now < 2 * step_s:
            steps -= 1
    return steps
