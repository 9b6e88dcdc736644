"""Requests on their way through the engine: those that wait, and those in inference. One batch at a time."""

import asyncio
import math
from dataclasses import dataclass

from bundle.arrays import Arrays
from engine.generation import Controls, Slate
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
    caller: str
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
        """Seconds with as much reasoning as recent lists did, at warm-up's pace."""
        return price.least_s + self.pace.reasoning * (price.most_s - price.least_s)

    def left_s(self, now: float) -> float:
        """Seconds until the batch in inference ends."""
        return max(0.0, self.ends_at - now) if self.running else 0.0

    def overdue_s(self, now: float) -> float:
        """Seconds for which it should have ended."""
        return max(0.0, now - self.ends_at) if self.running else 0.0
