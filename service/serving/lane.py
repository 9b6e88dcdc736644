"""Requests on their way through the engine: those that wait, and those in inference. One batch at a time."""

import asyncio
import math
from collections.abc import Hashable
from dataclasses import dataclass

from bundle.arrays import Arrays
from engine.generation import Controls, Slate
from engine.native.runner import LIKE
from service.observe.tracing import RequestRecord
from service.serving.cost import Pace, Price
from service.serving.fairness import FairQueue


@dataclass(eq=False, slots=True)
class Job:
    """One request. `taken_at` is infinite while it waits."""

    inputs: Arrays
    controls: Controls
    candidates: int
    price: Price
    caller: Hashable
    deadline: float
    queued_at: float
    slate: "asyncio.Future[Slate]"
    record: RequestRecord | None
    taken_at: float = math.inf

    @property
    def cost_s(self) -> float:
        return self.price.least_s

    def fail(self, fault: Exception) -> None:
        if not self.slate.done():
            self.slate.set_exception(fault)
            self.slate.exception()  # seen, even if nobody waits for it any more


class Batch:
    """Jobs that are to be written together, and the seconds it takes: as expected, and without reasoning."""

    def __init__(self, marginal: float) -> None:
        """`marginal`: of `CostModel`."""
        self.jobs: list[Job] = []
        self.longest_s = 0.0
        self._marginal = marginal
        self._expected_s = self._least_s = self._longest_least_s = 0.0
        self._deadline = math.inf

    def fits(self, job: Job, expected_s: float, least_s: float, at_most_s: float, now: float) -> bool:
        """Whether a job is of like length, and neither makes the batch too long nor anybody in it late.

        Args:
            expected_s, least_s: of the job alone.
        """
        first = self.jobs[0].candidates
        if min(job.candidates, first) < LIKE * max(job.candidates, first):
            return False
        share = 1.0 - self._marginal
        expected = self._marginal * (self._expected_s + expected_s) + share * max(self.longest_s, expected_s)
        least = self._marginal * (self._least_s + least_s) + share * max(self._longest_least_s, least_s)
        return expected <= at_most_s and now + least <= min(self._deadline, job.deadline)

    def add(self, job: Job, expected_s: float, least_s: float) -> None:
        self.jobs.append(job)
        self._expected_s += expected_s
        self._least_s += least_s
        self.longest_s = max(self.longest_s, expected_s)
        self._longest_least_s = max(self._longest_least_s, least_s)
        self._deadline = min(self._deadline, job.deadline)


class Lane:
    """A queue, the batch in inference, when that is predicted to end at the latest, and batches' pace."""

    def __init__(self) -> None:
        self.queue: FairQueue[Job] = FairQueue()
        self.running: list[Job] = []
        self.ends_at = -math.inf
        self.pace = Pace()
        self.wake = asyncio.Event()

    @property
    def idle(self) -> bool:
        return not self.running and not self.queue

    def least_s(self, price: Price) -> float:
        """Seconds without reasoning, at the present pace."""
        return self.pace.factor * price.least_s

    def expected_s(self, price: Price) -> float:
        """Seconds with as much reasoning and lookahead as recent lists did, at warm-up's pace."""
        return price.least_s + self.pace.extra * (price.most_s - price.least_s)

    def left_s(self, now: float) -> float:
        """Seconds until the batch in inference ends."""
        return max(0.0, self.ends_at - now) if self.running else 0.0
