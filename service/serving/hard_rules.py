"""Rules that take long to judge: in a thread of lower priority, a request at a time, in fair order.

Most are judged on the event loop, in microseconds; only what was not decided there comes here. What they
take is predicted by what recent ones took. A fallback obeys rules too, so until they are judged there is
none. Knows nothing of models. Times are seconds of its clock.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import monotonic
from typing import Any, TypeVar

from service.errors import DeadlineExceededError, OverloadedError
from service.serving.fairness import FairQueue
from service.serving.scheduler import yield_to_others

T = TypeVar("T")

AT_FIRST_S = 0.01
"""Predicted before anything was measured."""

RECENT = 31


@dataclass(eq=False, slots=True)
class _Job:
    judge: Callable[[], Any]
    caller: Hashable
    deadline: float
    cost_s: float
    judged: "asyncio.Future[Any]"


class HardRules:
    """`stop` after use."""

    def __init__(self, max_queue: int = 1024, clock: Callable[[], float] = monotonic) -> None:
        """`max_queue`: requests that may wait, whatever is predicted."""
        self._max_queue, self._clock = max_queue, clock
        self._queue: FairQueue[_Job] = FairQueue()
        self._ends_at: float | None = None  # of the one that is being judged, as predicted
        self._recent = deque([AT_FIRST_S], maxlen=RECENT)
        self._thread = ThreadPoolExecutor(1, "rules", initializer=yield_to_others)

    async def judge(
        self, judge: Callable[[], T], deadline: float, caller: Hashable, charge: Callable[[float], None]
    ) -> T:
        """The result of `judge`, or what it raises.

        Args:
            charge: told the predicted seconds, once it is admitted.

        Raises:
            OverloadedError: it would be late because of those before it.
            DeadlineExceededError: the deadline passed.
        """
        now, cost_s = self._clock(), median(self._recent)
        if self._ends_at is not None:
            wait = max(0.0, self._ends_at - now) + self._queue.ahead_s(caller, cost_s)
            if wait + cost_s > deadline - now or len(self._queue) >= self._max_queue:
                raise OverloadedError("too many rules are being judged to answer in time", wait)
        charge(cost_s)
        judged: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = _Job(judge, caller, deadline, cost_s, judged)
        self._queue.push(job)
        if self._ends_at is None:
            self._next()
        try:
            async with asyncio.timeout(max(0.0, deadline - now)):
                return await judged
        except TimeoutError:
            raise DeadlineExceededError("rules") from None
        finally:
            self._queue.remove(job)

    async def stop(self) -> None:
        """After those that were begun."""
        await asyncio.to_thread(self._thread.shutdown)

    def _next(self) -> None:
        taken = self._queue.take(lambda _: True, 1)
        if not taken:
            self._ends_at = None
            self._queue.rest()
            return
        (job,), started = taken, self._clock()
        self._ends_at = started + job.cost_s
        running = asyncio.get_running_loop().run_in_executor(self._thread, job.judge)
        running.add_done_callback(partial(self._ended, job, started))

    def _ended(self, job: _Job, started: float, running: "asyncio.Future[Any]") -> None:
        self._recent.append(self._clock() - started)
        if not job.judged.done():
            if (fault := running.exception()) is not None:
                job.judged.set_exception(fault)
            else:
                job.judged.set_result(running.result())
        else:
            running.exception()  # seen, though nobody waits for it any more
        self._next()
