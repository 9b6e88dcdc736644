"""Which requests are generated next: an admission limit, a queue, and one worker.

The worker runs whatever is queued as one batch, up to `max_batch_size`, and never waits for more: under
light load a request is alone and fast, under heavy load batches form by themselves. A batch that is expected
to be short runs on the event loop, because handing it to a thread and back takes longer than a lone
request's inference; a long one runs in a thread, so that health checks and deadlines go on. Time is shed in
this order: reasoning (through the micro-step budget), then requests whose deadline passed in the queue. A
batch's slates are written together, so a request may wait for a longer one beside it.

Knows nothing of HTTP, users or the caller's order. Times are seconds of its clock.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic

from bundle.arrays import Arrays
from bundle.contract import UNLIMITED_MICRO_STEPS
from engine.generation import Controls, Slate
from service.errors import DeadlineExceededError, ModelError, OverloadedError
from service.observe.model_metrics import ModelMetrics
from service.observe.tracing import RequestRecord, current

Generate = Callable[[Sequence[Arrays], Sequence[Controls]], list[Slate]]

SMOOTHING = 0.2
"""Weight of the newest batch in the running estimate of seconds per micro-step."""

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Job:
    inputs: Arrays
    controls: Controls
    deadline: float
    queued_at: float
    slate: "asyncio.Future[Slate]"
    record: RequestRecord | None
    taken_at: float = math.inf


class Scheduler:
    """Runs one model for many requests. `start` before use, `stop` after."""

    def __init__(
        self,
        generate: Generate,
        metrics: ModelMetrics,
        *,
        max_batch_size: int,
        max_concurrency: int,
        seconds_per_micro_step: float,
        inline_ms: float = 0.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`seconds_per_micro_step` is a first estimate, as measured by a warm-up; batches refine it. A batch
        expected to take less than `inline_ms` runs on the event loop. Deadlines are of `clock`, which the
        event loop's own time keeps pace with."""
        self._generate, self._metrics, self._clock = generate, metrics, clock
        self._max_batch_size, self._max_concurrency = max_batch_size, max_concurrency
        self._inline_s = inline_ms / 1000
        self._queue: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._wake = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._worker: asyncio.Task[None] | None = None
        self._seconds_per_micro_step = seconds_per_micro_step
        metrics.queued = lambda: len(self._queue)
        metrics.concurrency_limit.set(max_concurrency)

    def start(self) -> None:
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stop after the batch in inference; whoever still waits gets a `ModelError`."""
        assert self._worker is not None
        self._worker.cancel()
        await asyncio.wait([self._worker])
        for job in (*self._queue, *self._running):
            _fail(job, ModelError("the service is shutting down"))
        await asyncio.to_thread(self._executor.shutdown)

    def admit(self) -> None:
        """Raises: OverloadedError: the limit is reached; asked before any work is done for a request."""
        if len(self._queue) + len(self._running) >= self._max_concurrency:
            self._metrics.shed.labels("overload").inc()
            raise OverloadedError(f"{self._max_concurrency} requests are already waiting")

    async def generate(self, inputs: Arrays, controls: Controls, deadline: float) -> Slate:
        """Queue a request and wait for its slate, at most until its deadline.

        Args:
            inputs: one `FeatureAssembler.request` result.

        Raises:
            OverloadedError: the queue is full.
            DeadlineExceededError: the deadline passed, queued or in inference (which goes on, unheard).
            ModelError: the model failed on this very request.
        """
        self.admit()
        loop, now = asyncio.get_running_loop(), self._clock()
        job = _Job(inputs, controls, deadline, now, loop.create_future(), current())
        self._queue.append(job)
        self._wake.set()
        timer = loop.call_later(max(0.0, deadline - now), self._expire, job)
        try:
            return await job.slate
        finally:
            timer.cancel()
            if job.taken_at == math.inf and job in self._queue:  # its caller left
                self._queue.remove(job)

    def _expire(self, job: _Job) -> None:
        """The job's deadline passed, queued or in inference."""
        if job.slate.done():
            return
        if job in self._queue:
            self._queue.remove(job)
            _fail(job, self._too_late(job))
            return
        if job.record is not None:
            job.record.stage("infer", job.taken_at, self._clock(), failed=True)
        _fail(job, DeadlineExceededError("infer"))

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._running = self._next_batch()
            if not self._running:
                self._wake.clear()
                continue
            self._metrics.batch_size.observe(len(self._running))
            await self._run_batch(self._running)
            self._running = []

    def _next_batch(self) -> list[_Job]:
        now = self._clock()
        batch: list[_Job] = []
        while self._queue and len(batch) < self._max_batch_size:
            job = self._queue.popleft()
            if job.deadline <= now:
                _fail(job, self._too_late(job))
            else:
                job.taken_at = now
                self._metrics.stage_took("queue", job.queued_at, now, job.record)
                batch.append(job)
        return batch

    def _too_late(self, job: _Job) -> DeadlineExceededError:
        """A job that leaves the queue without inference."""
        self._metrics.stage_took("queue", job.queued_at, self._clock(), job.record, failed=True)
        self._metrics.shed.labels("deadline").inc()
        return DeadlineExceededError("queue")

    async def _run_batch(self, batch: list[_Job]) -> None:
        """Answer every job of the batch. A failed batch is tried again one by one, so that one request
        the model fails on costs the others time but not their slates."""
        try:
            for job, slate in zip(batch, await self._infer(batch), strict=True):
                if not job.slate.done():
                    job.slate.set_result(slate)
        except Exception as fault:
            # The fault's own text may be logged, because the model is given no ids.
            logger.error("inference failed for a batch of %d: %s", len(batch), fault, exc_info=fault)
            if len(batch) == 1:
                _fail(batch[0], ModelError("the model failed on this request"))
                return
            for job in batch:
                if not job.slate.done():
                    await self._run_batch([job])

    async def _infer(self, batch: list[_Job]) -> list[Slate]:
        started = self._clock()
        controls = [self._within_deadline(job, started) for job in batch]
        inputs = [job.inputs for job in batch]
        failed = True
        try:
            if self._longest(controls) < self._inline_s:
                slates = self._generate(inputs, controls)
            else:
                loop = asyncio.get_running_loop()
                slates = await loop.run_in_executor(self._executor, self._generate, inputs, controls)
            failed = False
        finally:
            ended = self._clock()
            for job in batch:
                self._metrics.stage_took("infer", started, ended, job.record, failed)
        newest = (ended - started) / max(slate.micro_steps for slate in slates)
        self._seconds_per_micro_step += SMOOTHING * (newest - self._seconds_per_micro_step)
        return slates

    def _longest(self, controls: Sequence[Controls]) -> float:
        """Seconds a batch takes if it spends every reasoning token it may."""
        micro_steps = max(request.slate_length * (1 + request.reasoning_budget) for request in controls)
        return micro_steps * self._seconds_per_micro_step

    def _within_deadline(self, job: _Job, now: float) -> Controls:
        """Controls whose micro-step budget is what the estimate fits into the remaining time."""
        fitting = int((job.deadline - now) / self._seconds_per_micro_step)
        budget = min(max(job.controls.slate_length, fitting), UNLIMITED_MICRO_STEPS)
        return replace(job.controls, micro_step_budget=budget, deadline=job.deadline)


def _fail(job: _Job, fault: Exception) -> None:
    if not job.slate.done():
        job.slate.set_exception(fault)
        job.slate.exception()  # seen, even if nobody waits for it any more
