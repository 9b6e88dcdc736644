"""Which requests are generated next: two lanes, each a fair queue and a worker that runs one batch at a time.

The short lane runs on the event loop, because handing a batch to a thread and back takes longer than a lone
request's inference. A batch is whatever is queued of like lengths, as far as it is predicted to end within
`batch_s`; nobody waits for more to come. A request that would take longer than that by itself goes to the
long lane, in a thread of lower priority, beside the short ones, because compiled decoding and ONNX Runtime
hold no lock of Python's. It has company there only if that is cheaper than being alone.

Time is shed in this order: reasoning and lookahead, where the deadline of somebody in the batch or behind it
needs the time; then requests that would be late, at admission; then those that are.

Knows nothing of HTTP, users or the caller's order. Times are seconds of its clock.
"""

import asyncio
import logging
import math
import os
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic

from bundle.arrays import Arrays
from bundle.contract import UNLIMITED_MICRO_STEPS
from engine.generation import Controls, Slate
from service.errors import DeadlineExceededError, ModelError, OverloadedError
from service.observe.model_metrics import ModelMetrics
from service.observe.tracing import current
from service.serving.admission import Admission
from service.serving.cost import CostModel, Price
from service.serving.lane import Batch, Job, Lane
from service.serving.occupancy import Occupancy, Stay

Generate = Callable[[Sequence[Arrays], Sequence[Controls]], list[Slate]]

LONG_LANE_NICENESS = 5

TURNS = 3
"""Of the event loop between two batches: answers go out, the next requests are read, and are made ready.
With fewer, what arrives meanwhile misses the next batch."""

logger = logging.getLogger(__name__)


class Scheduler:
    """Runs one model for many requests. `start` before use, `stop` after."""

    def __init__(
        self,
        generate: Generate,
        metrics: ModelMetrics,
        costs: CostModel,
        *,
        max_batch_size: int,
        batch_s: float,
        max_queue: int,
        lag_s: Callable[[], float] = lambda: 0.0,
        occupancy: Occupancy | None = None,
        clock: Callable[[], float] = monotonic,
        engine_clock: Callable[[], float] = monotonic,
    ) -> None:
        """
        Args:
            costs: as measured by a warm-up; batches refine it.
            max_queue: requests that may wait, whatever is predicted: a limit for safety.
            lag_s: how far the event loop is behind.
            occupancy: of the event loop, if it has other models too.
            clock: of deadlines; the event loop's own time keeps pace with it.
            engine_clock: what the engine looks at while it writes.
        """
        self._generate, self._metrics, self._costs, self._clock = generate, metrics, costs, clock
        self._max_batch_size, self._batch_s = max_batch_size, batch_s
        self._lag_s, self._engine_clock = lag_s, engine_clock
        self._short, self._long = self._lanes = Lane(), Lane()
        self._occupancy = Occupancy(clock) if occupancy is None else occupancy
        self._beside = Occupancy(clock)
        self._admission = Admission(self._lanes, max_queue, lag_s, self._occupancy, clock)
        self._executor = ThreadPoolExecutor(1, "inference", initializer=yield_to_others)
        self._workers: list[asyncio.Task[None]] = []
        metrics.queued = lambda: sum(len(lane.queue) for lane in self._lanes)
        metrics.concurrency_limit.set(max_queue)

    def start(self) -> None:
        self._workers = [asyncio.create_task(self._work(lane)) for lane in self._lanes]

    async def stop(self) -> None:
        """Stop after the batches in inference; whoever still waits gets a `ModelError`."""
        assert self._workers
        for worker in self._workers:
            worker.cancel()
        await asyncio.wait(self._workers)
        for lane in self._lanes:
            for job in (*lane.queue, *lane.running):
                job.fail(ModelError("the service is shutting down"))
        await asyncio.to_thread(self._executor.shutdown)

    def admit(self, candidates: int, controls: Controls, deadline: float, caller: Hashable) -> Price:
        """Asked before any work is done for a request.

        Raises:
            OverloadedError: as `Admission.check`.
        """
        price = self._costs.price(
            candidates, controls.slate_length, controls.reasoning_budget, controls.lookahead
        ).under(controls.constraints)
        try:
            self._admission.check(self._lane_of(price), price, deadline, caller)
        except OverloadedError:
            self._metrics.shed.labels("overload").inc()
            raise
        return price

    def stay(self, price: Price, caller: Hashable) -> Stay:
        """A context for all the work on an admitted request. In a thread, it takes nothing of the loop."""
        return (self._occupancy if self._lane_of(price) is self._short else self._beside).stay(caller)

    async def generate(
        self,
        inputs: Arrays,
        controls: Controls,
        deadline: float,
        caller: Hashable = "",
        price: Price | None = None,
    ) -> Slate:
        """Queue a request and wait for its slate, at most until its deadline.

        Args:
            inputs: one `FeatureAssembler.request` result.
            caller: whose share of the engine's time it takes.
            price: what `admit` returned; without it, admits first.

        Raises:
            OverloadedError: as `admit`.
            DeadlineExceededError: the deadline passed, queued or in inference.
            ModelError: the model failed on this very request.
        """
        candidates = len(inputs["candidate_numeric"])
        price = price or self.admit(candidates, controls, deadline, caller)
        lane = self._lane_of(price)
        loop, now = asyncio.get_running_loop(), self._clock()
        slate: asyncio.Future[Slate] = loop.create_future()
        job = Job(inputs, controls, candidates, price, caller, deadline, now, slate, current())
        lane.queue.push(job)
        lane.wake.set()
        timer = loop.call_later(max(0.0, deadline - now), self._expire, lane, job)
        try:
            return await slate
        finally:
            timer.cancel()
            if job.taken_at == math.inf:  # its caller left
                lane.queue.remove(job)

    def _lane_of(self, price: Price) -> Lane:
        return self._short if price.most_s <= self._batch_s else self._long

    def _expire(self, lane: Lane, job: Job) -> None:
        """The job's deadline passed, queued or in inference."""
        if job.slate.done():
            return
        if job.taken_at == math.inf:
            lane.queue.remove(job)
            self._too_late(job)
            return
        if job.record is not None:
            job.record.stage("infer", job.taken_at, self._clock(), failed=True)
        job.fail(DeadlineExceededError("infer"))

    async def _work(self, lane: Lane) -> None:
        while True:
            await lane.wake.wait()
            lane.running = self._next_batch(lane)
            if lane.running:
                self._metrics.batch_size.observe(len(lane.running))
                await self._run_batch(lane, lane.running)
                lane.running = []
                for _ in range(TURNS):
                    await asyncio.sleep(0)
            elif not lane.queue:
                lane.queue.rest()
                lane.wake.clear()

    def _next_batch(self, lane: Lane) -> list[Job]:
        """The next in fair order, and others of like length as far as the batch stays short and nobody in it
        becomes late. Who would be late by itself is dropped on the way, unless nobody else waits."""
        now = self._clock()
        only = len(lane.queue) == 1
        batch = Batch(self._costs.marginal)
        late: list[Job] = []

        def wanted(job: Job) -> bool:
            least = lane.least_s(job.price)
            if job.deadline <= now or (not only and job.deadline <= now + least):
                late.append(job)
                return True
            expected = lane.expected_s(job.price)
            if batch.jobs:
                longest = self._batch_s
                if lane is self._long:  # only if that costs less than by itself
                    longest = batch.longest_s / self._costs.marginal
                if not batch.fits(job, expected, least, longest, now):
                    return False
            batch.add(job, expected, least)
            return True

        lane.queue.take(wanted, self._max_batch_size)
        for job in late:
            self._too_late(job)
        for job in batch.jobs:
            job.taken_at = now
            self._metrics.stage_took("queue", job.queued_at, now, job.record)
        return batch.jobs

    def _too_late(self, job: Job) -> None:
        """A job leaves the queue without inference."""
        self._metrics.stage_took("queue", job.queued_at, self._clock(), job.record, failed=True)
        self._metrics.shed.labels("deadline").inc()
        job.taken_at = -math.inf
        job.fail(DeadlineExceededError("queue"))

    async def _run_batch(self, lane: Lane, batch: list[Job]) -> None:
        """Answer every job of the batch. A failed batch is tried again one by one, so that one request
        the model fails on costs the others time but not their slates."""
        try:
            for job, slate in zip(batch, await self._infer(lane, batch), strict=True):
                if job.slate.done():
                    continue
                if len(slate.positions) < job.controls.slate_length:
                    job.fail(DeadlineExceededError("infer"))
                else:
                    job.slate.set_result(slate)
        except Exception as fault:
            # The fault's own text may be logged, because the model is given no ids.
            logger.error("inference failed for a batch of %d: %s", len(batch), fault, exc_info=fault)
            if len(batch) == 1:
                batch[0].fail(ModelError("the model failed on this request"))
                return
            for job in batch:
                if not job.slate.done():
                    await self._run_batch(lane, [job])

    async def _infer(self, lane: Lane, batch: list[Job]) -> list[Slate]:
        started = self._clock()
        controls = self._within_time(lane, batch, started)
        inputs = [job.inputs for job in batch]
        lane.ends_at = started + lane.pace.factor * self._costs.batch_s(job.price.most_s for job in batch)
        failed = True
        try:
            if lane is self._short:
                slates = self._generate(inputs, controls)
            else:
                loop = asyncio.get_running_loop()
                slates = await loop.run_in_executor(self._executor, self._generate, inputs, controls)
            failed = False
        finally:
            ended = self._clock()
            for job in batch:
                self._metrics.stage_took("infer", started, ended, job.record, failed)
        self._learn(lane, batch, slates, ended - started)
        return slates

    def _within_time(self, lane: Lane, batch: list[Job], now: float) -> list[Controls]:
        """Controls that let the batch reason only while it ends in time for all it holds, as its slates come
        together, and for all who wait behind it."""
        factor = lane.pace.factor
        least = factor * self._costs.batch_s(job.price.least_s for job in batch)
        end = min(job.deadline for job in batch)
        if lane.queue:
            end = min(end, min(job.deadline for job in lane.queue) - factor * lane.queue.seconds)
        reason_until = end - least - self._lag_s()
        a_token = max(1e-9, factor * sum(job.price.token_s for job in batch))
        tokens = int(min(max(0.0, reason_until - now) / a_token, UNLIMITED_MICRO_STEPS))
        ahead = self._engine_clock() - now
        return [
            replace(
                job.controls,
                micro_step_budget=min(job.controls.slate_length + tokens, UNLIMITED_MICRO_STEPS),
                reason_until=reason_until + ahead,
                deadline=job.deadline + ahead,
                lookahead=job.controls.lookahead if now + factor * job.price.looking_s < reason_until else 0,
            )
            for job in batch
        ]

    def _learn(self, lane: Lane, batch: list[Job], slates: Sequence[Slate], seconds: float) -> None:
        """What the batch took, if it was written to its end, and if its prices are no mere bounds and know of
        all that was done."""
        if any(job.price.searched_s or job.controls.trace_candidates for job in batch):
            return
        if any(len(s.positions) < job.controls.slate_length for job, s in zip(batch, slates, strict=True)):
            return
        spent = [
            job.price.spent_s(slate.reasoning_tokens, slate.judged)
            for job, slate in zip(batch, slates, strict=True)
        ]
        alone = (job.price.least_s + extra for job, extra in zip(batch, spent, strict=True))
        allowed = sum(job.price.most_s - job.price.least_s for job in batch)
        lane.pace.took(self._costs.batch_s(alone), seconds, sum(spent) / allowed if allowed else 0.0)


def yield_to_others() -> None:
    """Lower the priority of this thread, so that short requests go first where cores are few."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LONG_LANE_NICENESS)
    except OSError:
        logger.warning("the priority of the inference thread could not be lowered")
