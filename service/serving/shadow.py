"""Shows requests to a second model as well, and compares what both wrote. Callers see nothing of it.

It happens once the answer is on its way, in a thread of lower priority, one request at a time. The thread
rests after each, so that it is busy for no more than a share of the time; what comes while enough wait
already is dropped, and counted. Knows nothing of requests.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import perf_counter
from typing import NamedTuple

import numpy as np

from engine.loaded_model import LoadedModel
from service.errors import ServiceError
from service.serving.registry import ServedModel, Shadowing
from service.serving.scheduler import yield_to_others

logger = logging.getLogger(__name__)


class Written(NamedTuple):
    """A list, as ids of items, the reasoning tokens in it, and how long it took."""

    ids: Sequence[str]
    tokens: int
    seconds: float


Write = Callable[[LoadedModel], tuple[Sequence[str], int]]
"""Writes the list of a request with another model: ids and tokens."""


class Shadows:
    """All shadows of a worker."""

    def __init__(self, load: float, most_waiting: int) -> None:
        """
        Args:
            load: share of the time, of one core, that they may take.
            most_waiting: requests that may wait for them.
        """
        self._load, self._most_waiting = load, most_waiting
        self._executor = ThreadPoolExecutor(1, "shadow", initializer=yield_to_others)
        self._under_way: set[asyncio.Task[None]] = set()
        self._over = Event()

    def offer(self, shadowing: Shadowing, live: Written, write: Write) -> None:
        """Show a request to a shadow, if it is among its share, and there is time."""
        if random.random() >= shadowing.share:
            return
        shadow = shadowing.served
        if len(self._under_way) >= self._most_waiting:
            shadow.metrics.shadow.requests.labels("dropped").inc()
            return
        task = asyncio.create_task(self._show(shadow, live, write))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def stop(self) -> None:
        """Without those that still wait."""
        self._over.set()
        self._executor.shutdown(wait=False, cancel_futures=True)
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _show(self, shadow: ServedModel, live: Written, write: Write) -> None:
        metrics = shadow.metrics.shadow
        loop = asyncio.get_running_loop()
        with shadow:
            try:
                written = await loop.run_in_executor(self._executor, self._write, shadow.model, write)
            except ServiceError:  # it is of other features, or was too slow
                metrics.requests.labels("failed").inc()
                return
            except Exception as error:
                logger.error("the shadow %s %s failed on a request", *shadow.key, exc_info=error)
                metrics.requests.labels("failed").inc()
                return
        metrics.requests.labels("compared").inc()
        metrics.overlap.observe(overlap(live.ids, written.ids))
        tau = kendall_tau(live.ids, written.ids)
        if tau is not None:
            metrics.kendall_tau.observe(tau)
        for whose, one in (("live", live), ("shadow", written)):
            metrics.tokens.labels(whose).observe(one.tokens)
            metrics.duration.labels(whose).observe(one.seconds)

    def _write(self, model: LoadedModel, write: Write) -> Written:
        started = perf_counter()
        try:
            ids, tokens = write(model)
            return Written(ids, tokens, perf_counter() - started)
        finally:
            self._rest(perf_counter() - started)

    def _rest(self, worked_s: float) -> None:
        self._over.wait(worked_s * (1.0 / self._load - 1.0))


def overlap(first: Sequence[str], second: Sequence[str]) -> float:
    """Share of the first k items of each list that the other has among its own; k is the shorter's length."""
    k = min(len(first), len(second))
    return len({*first[:k]} & {*second[:k]}) / k if k else 0.0


def kendall_tau(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Kendall's tau of the items that both lists have: pairs in the same order, less those in the other, over
    all pairs. None without a pair. Kendall, A New Measure of Rank Correlation, 1938."""
    places = {item: place for place, item in enumerate(second)}
    common = np.array([places[item] for item in first if item in places])
    pairs = len(common) * (len(common) - 1) // 2
    if not pairs:
        return None
    order = np.sign(common[None, :] - common[:, None])
    return float(np.triu(order, 1).sum()) / pairs
