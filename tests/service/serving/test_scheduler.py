"""The scheduler, with a stand-in for the model and a clock that the test moves."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from eventually import eventually
from faulty_runners import Gate
from steered_clock import SteeredClock, turns

from bundle.contract import UNLIMITED_MICRO_STEPS
from engine.generation import Controls, Position, Slate
from service.errors import DeadlineExceededError, ModelError, OverloadedError
from service.observe.metrics import Metrics
from service.serving.scheduler import SMOOTHING, Scheduler

A_STEP_S = 2**-10
"""Seconds of a micro-step, by the scheduler's first estimate: so that budgets come out even."""


class Model:
    """Remembers its batches. Can be held up, and fails on any batch with a request of length `poison`."""

    def __init__(self, poison: int = -1) -> None:
        self.batches: list[list[Controls]] = []
        self.threads: list[int] = []
        self.gate = Gate()
        self.gate.set()
        self.poison = poison

    def generate(self, inputs: Sequence[Any], controls: Sequence[Controls]) -> list[Slate]:
        assert self.gate.wait(60)
        self.threads.append(threading.get_ident())
        self.batches.append(list(controls))
        if any(request.slate_length == self.poison for request in controls):
            raise RuntimeError("poisoned")
        return [slate(request.slate_length) for request in controls]

    async def hold(self, scheduler: Scheduler, clock: SteeredClock) -> "asyncio.Task[Slate]":
        """A request of length 1 that is in inference, and stays there until the gate is set."""
        self.gate.clear()
        running = submit(scheduler, clock)
        await eventually(self.gate.reached.is_set)
        return running


def slate(length: int) -> Slate:
    return Slate(tuple(Position(i, 1.0, 1.0, 0, 0.0, 0.0, 0.0) for i in range(length)), "entropy")


def controls(length: int = 1) -> Controls:
    return Controls(length, 0.5, 3, 1.5, 0.7)


INPUTS = {"candidate_numeric": np.zeros((1, 1), np.float32)}
Running = Callable[..., AbstractAsyncContextManager[Scheduler]]


@pytest.fixture
def running(clock: SteeredClock) -> Running:
    @asynccontextmanager
    async def running(model: Model, **limits: float) -> AsyncIterator[Scheduler]:
        given = {"max_batch_size": 4, "max_concurrency": 8, **limits}
        scheduler = Scheduler(
            model.generate,
            Metrics().for_model("m", "1"),
            seconds_per_micro_step=A_STEP_S,
            clock=clock,
            **given,
        )
        scheduler.start()
        yield scheduler
        model.gate.set()
        await scheduler.stop()

    return running


def submit(
    scheduler: Scheduler, clock: SteeredClock, length: int = 1, seconds: float = 5.0
) -> "asyncio.Task[Slate]":
    return asyncio.create_task(scheduler.generate(INPUTS, controls(length), clock() + seconds))


async def test_a_lone_request_does_not_wait_for_others(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model) as scheduler:
        assert await submit(scheduler, clock, 3) == slate(3)
    assert [len(batch) for batch in model.batches] == [1]


async def test_only_a_batch_expected_to_be_long_leaves_the_event_loop(
    running: Running, clock: SteeredClock
) -> None:
    here = threading.get_ident()
    an_item_ms = 1000 * A_STEP_S * (1 + controls().reasoning_budget)
    for length, threads in ((2, {here}), (3, set())):
        model = Model()
        async with running(model, inline_ms=2.5 * an_item_ms) as scheduler:
            await submit(scheduler, clock, length)
        assert len(model.threads) == 1
        assert set(model.threads) & {here} == threads


async def test_what_queues_up_meanwhile_is_the_next_batch(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model) as scheduler:
        first = await model.hold(scheduler, clock)
        others = [submit(scheduler, clock, length) for length in range(2, 8)]
        await turns()
        model.gate.set()
        assert await asyncio.gather(first, *others) == [slate(length) for length in range(1, 8)]
    assert [[c.slate_length for c in batch] for batch in model.batches] == [[1], [2, 3, 4, 5], [6, 7]]


async def test_more_than_the_limit_is_overload(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model, max_concurrency=3) as scheduler:
        admitted = [await model.hold(scheduler, clock), submit(scheduler, clock), submit(scheduler, clock)]
        await turns()
        with pytest.raises(OverloadedError):
            scheduler.admit()
        with pytest.raises(OverloadedError):
            await submit(scheduler, clock)
        model.gate.set()
        await asyncio.gather(*admitted)
        scheduler.admit()


async def test_one_poisonous_request_does_not_fail_the_others(running: Running, clock: SteeredClock) -> None:
    model = Model(poison=3)
    async with running(model) as scheduler:
        first = await model.hold(scheduler, clock)
        tasks = [submit(scheduler, clock, length) for length in (2, 3, 4, 5)]
        await turns()
        model.gate.set()
        answers = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert [a for a in answers if isinstance(a, Slate)] == [slate(n) for n in (1, 2, 4, 5)]
        assert isinstance(answers[2], ModelError)
        assert await submit(scheduler, clock, 6) == slate(6), "the scheduler lives on"
    tried = [[c.slate_length for c in batch] for batch in model.batches]
    assert tried == [[1], [2, 3, 4, 5], [2], [3], [4], [5], [6]]


async def test_a_wrong_answer_of_the_model_is_its_fault(running: Running, clock: SteeredClock) -> None:
    class Confused(Model):
        def generate(self, inputs: Sequence[Any], controls: Sequence[Controls]) -> list[Slate]:
            return []

    async with running(Confused()) as scheduler:
        for _ in range(2):
            with pytest.raises(ModelError):
                await submit(scheduler, clock)


async def test_inference_is_not_waited_for_beyond_the_deadline(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model) as scheduler:
        late = await model.hold(scheduler, clock)
        await clock.advance(4.999)
        assert not late.done()
        await clock.advance(0.001)
        assert late.done()
        with pytest.raises(DeadlineExceededError) as caught:
            await late
        assert caught.value.stage == "infer"
        model.gate.set()
        assert await submit(scheduler, clock, 2) == slate(2)


async def test_a_deadline_passed_in_the_queue_costs_no_inference(
    running: Running, clock: SteeredClock
) -> None:
    model = Model()
    async with running(model) as scheduler:
        first = await model.hold(scheduler, clock)
        late = submit(scheduler, clock, 2, seconds=0.05)
        await clock.advance(0.05)
        with pytest.raises(DeadlineExceededError) as caught:
            await late
        assert caught.value.stage == "queue"
        model.gate.set()
        await first
        await submit(scheduler, clock, 3)
    assert [c.slate_length for batch in model.batches for c in batch] == [1, 3]


async def test_a_deadline_is_seen_before_its_timer(running: Running, clock: SteeredClock) -> None:
    """As when the event loop was busy: what is taken from the queue is looked at first."""
    model = Model()
    async with running(model) as scheduler:
        first = await model.hold(scheduler, clock)
        late = submit(scheduler, clock, 2, seconds=0.05)
        await turns()
        with pytest.MonkeyPatch.context() as standing:
            standing.setattr(asyncio.get_running_loop(), "time", lambda: 0.0)
            clock.now = 0.05
            model.gate.set()
            with pytest.raises(DeadlineExceededError) as caught:
                await late
        assert caught.value.stage == "queue"
        await first
    assert [c.slate_length for batch in model.batches for c in batch] == [1]


async def test_abandoned_inference_holds_its_permit(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model, max_concurrency=1) as scheduler:
        late = await model.hold(scheduler, clock)
        await clock.advance(5.0)
        with pytest.raises(DeadlineExceededError):
            await late
        with pytest.raises(OverloadedError):
            scheduler.admit()


async def test_a_request_given_up_in_the_queue_frees_its_place(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model, max_concurrency=2) as scheduler:
        first = await model.hold(scheduler, clock)
        late = submit(scheduler, clock, seconds=0.03)
        await turns()
        with pytest.raises(OverloadedError):
            scheduler.admit()
        await clock.advance(0.03)
        with pytest.raises(DeadlineExceededError):
            await late
        abandoned = submit(scheduler, clock)
        await turns()
        abandoned.cancel()
        await turns()
        scheduler.admit()
        model.gate.set()
        await first


@pytest.mark.parametrize(
    ("length", "seconds", "budget"),
    [(2, 50 * A_STEP_S, 50), (40, 20 * A_STEP_S, 40), (1, 1e9, UNLIMITED_MICRO_STEPS)],
    ids=["what fits", "the slate itself always", "no end"],
)
async def test_remaining_time_caps_the_micro_steps(
    running: Running, clock: SteeredClock, length: int, seconds: float, budget: int
) -> None:
    model = Model()
    async with running(model) as scheduler:
        await submit(scheduler, clock, length, seconds)
    assert [request.micro_step_budget for request in model.batches[0]] == [budget]


async def test_the_estimate_follows_the_model(running: Running, clock: SteeredClock) -> None:
    class Slow(Model):
        def generate(self, inputs: Sequence[Any], controls: Sequence[Controls]) -> list[Slate]:
            clock.now += 10 * A_STEP_S
            return super().generate(inputs, controls)

    model = Slow()
    async with running(model) as scheduler:
        for _ in range(12):
            await submit(scheduler, clock, 1, seconds=500 * A_STEP_S)
    expected = [500 / (10 - 9 * (1 - SMOOTHING) ** n) for n in range(12)]
    assert [batch[0].micro_step_budget for batch in model.batches] == pytest.approx(expected, abs=1)


async def test_stopping_answers_whoever_waits(clock: SteeredClock) -> None:
    model = Model()
    scheduler = Scheduler(
        model.generate,
        Metrics().for_model("m", "1"),
        max_batch_size=1,
        max_concurrency=8,
        seconds_per_micro_step=A_STEP_S,
        clock=clock,
    )
    scheduler.start()
    waiting = [await model.hold(scheduler, clock), submit(scheduler, clock), submit(scheduler, clock)]
    await turns()
    stopping = asyncio.create_task(scheduler.stop())
    await turns()
    assert all(task.done() for task in waiting)
    assert all(isinstance(task.exception(), ModelError) for task in waiting)
    assert not stopping.done(), "inference goes on, unheard"
    model.gate.set()
    await stopping
