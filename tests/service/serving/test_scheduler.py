"""The scheduler, with a stand-in for the model."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from bundle.contract import UNLIMITED_MICRO_STEPS
from engine.generation import Controls, Position, Slate
from service.errors import DeadlineExceededError, ModelError, OverloadedError
from service.observe.metrics import Metrics
from service.serving.scheduler import Scheduler

SECONDS_PER_MICRO_STEP = 0.001


class Model:
    """Remembers its batches. Can be held up, and fails on any batch with a request of length `poison`."""

    def __init__(self, poison: int = -1) -> None:
        self.batches: list[list[Controls]] = []
        self.threads: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.poison = poison

    def generate(self, inputs: Sequence[Any], controls: Sequence[Controls]) -> list[Slate]:
        assert self.gate.wait(5)
        self.threads.append(threading.get_ident())
        self.batches.append(list(controls))
        if any(request.slate_length == self.poison for request in controls):
            raise RuntimeError("poisoned")
        return [slate(request.slate_length) for request in controls]


def slate(length: int) -> Slate:
    return Slate(tuple(Position(i, 1.0, 1.0, 0, 0.0, 0.0, 0.0) for i in range(length)), "entropy")


def controls(length: int = 1) -> Controls:
    return Controls(length, 0.5, 3, 1.5, 0.7)


INPUTS = {"candidate_numeric": np.zeros((1, 1), np.float32)}
Running = Callable[..., AbstractAsyncContextManager[Scheduler]]


@pytest.fixture
def running() -> Running:
    @asynccontextmanager
    async def running(model: Model, **limits: float) -> AsyncIterator[Scheduler]:
        given = {"max_batch_size": 4, "max_concurrency": 8, **limits}
        scheduler = Scheduler(
            model.generate,
            Metrics().for_model("m", "1"),
            seconds_per_micro_step=SECONDS_PER_MICRO_STEP,
            **given,
        )
        scheduler.start()
        yield scheduler
        model.gate.set()
        await scheduler.stop()

    return running


def submit(scheduler: Scheduler, length: int = 1, seconds: float = 5.0) -> "asyncio.Task[Slate]":
    return asyncio.create_task(scheduler.generate(INPUTS, controls(length), monotonic() + seconds))


async def test_a_lone_request_does_not_wait_for_others(running: Running) -> None:
    model = Model()
    async with running(model) as scheduler:
        assert await submit(scheduler, 3) == slate(3)
    assert [len(batch) for batch in model.batches] == [1]


async def test_only_a_batch_expected_to_be_long_leaves_the_event_loop(running: Running) -> None:
    model, here = Model(), threading.get_ident()
    per_item_ms = 1000 * SECONDS_PER_MICRO_STEP * (1 + controls().reasoning_budget)
    async with running(model, inline_ms=2.5 * per_item_ms) as scheduler:
        await submit(scheduler, 2)
        assert model.threads == [here]
    model = Model()
    async with running(model, inline_ms=2.5 * per_item_ms) as scheduler:
        await submit(scheduler, 3)
        assert model.threads != [here]


async def test_what_queues_up_meanwhile_is_the_next_batch(running: Running) -> None:
    model = Model()
    async with running(model) as scheduler:
        model.gate.clear()
        first = submit(scheduler, 1)
        await asyncio.sleep(0.02)
        others = [submit(scheduler, length) for length in range(2, 8)]
        await asyncio.sleep(0.02)
        model.gate.set()
        assert await asyncio.gather(first, *others) == [slate(length) for length in range(1, 8)]
    assert [[c.slate_length for c in batch] for batch in model.batches] == [[1], [2, 3, 4, 5], [6, 7]]


async def test_more_than_the_limit_is_overload(running: Running) -> None:
    model = Model()
    async with running(model, max_concurrency=3) as scheduler:
        model.gate.clear()
        admitted = [submit(scheduler) for _ in range(3)]
        await asyncio.sleep(0.02)
        with pytest.raises(OverloadedError):
            scheduler.admit()
        with pytest.raises(OverloadedError):
            await submit(scheduler)
        model.gate.set()
        await asyncio.gather(*admitted)
        scheduler.admit()


async def test_one_poisonous_request_does_not_fail_the_others(running: Running) -> None:
    model = Model(poison=3)
    async with running(model) as scheduler:
        model.gate.clear()
        tasks = [submit(scheduler, length) for length in (1, 2, 3, 4, 5)]
        await asyncio.sleep(0.02)
        model.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [a for a in answers if isinstance(a, Slate)] == [slate(n) for n in (1, 2, 4, 5)]
        assert isinstance(answers[2], ModelError)
        assert await submit(scheduler, 6) == slate(6), "the scheduler lives on"


async def test_a_wrong_answer_of_the_model_is_its_fault(running: Running) -> None:
    class Confused(Model):
        def generate(self, inputs: Sequence[Any], controls: Sequence[Controls]) -> list[Slate]:
            return []

    async with running(Confused()) as scheduler:
        for _ in range(2):
            with pytest.raises(ModelError):
                await submit(scheduler)


async def test_inference_is_not_waited_for_beyond_the_deadline(running: Running) -> None:
    model = Model()
    async with running(model) as scheduler:
        model.gate.clear()
        started = monotonic()
        with pytest.raises(DeadlineExceededError) as caught:
            await submit(scheduler, seconds=0.05)
        assert caught.value.stage == "infer"
        assert 0.04 < monotonic() - started < 0.5
        model.gate.set()
        assert await submit(scheduler, 2) == slate(2)


async def test_a_deadline_passed_in_the_queue_costs_no_inference(running: Running) -> None:
    model = Model()
    async with running(model) as scheduler:
        model.gate.clear()
        running_one = submit(scheduler, 1)
        await asyncio.sleep(0.02)
        with pytest.raises(DeadlineExceededError) as caught:
            await submit(scheduler, 2, seconds=0.05)
        assert caught.value.stage == "queue"
        model.gate.set()
        await running_one
        await submit(scheduler, 3)
    assert [c.slate_length for batch in model.batches for c in batch] == [1, 3]


async def test_abandoned_inference_holds_its_permit(running: Running) -> None:
    model = Model()
    async with running(model, max_concurrency=1) as scheduler:
        model.gate.clear()
        with pytest.raises(DeadlineExceededError):
            await submit(scheduler, seconds=0.03)
        with pytest.raises(OverloadedError):
            scheduler.admit()


async def test_a_request_given_up_in_the_queue_frees_its_place(running: Running) -> None:
    model = Model()
    async with running(model, max_concurrency=2) as scheduler:
        model.gate.clear()
        running_one = submit(scheduler)
        await asyncio.sleep(0.02)
        with pytest.raises(DeadlineExceededError):
            await submit(scheduler, seconds=0.03)
        scheduler.admit()
        model.gate.set()
        await running_one


async def test_remaining_time_caps_the_micro_steps(running: Running) -> None:
    model = Model()
    async with running(model) as scheduler:
        await submit(scheduler, 2, seconds=0.05)
        await submit(scheduler, 40, seconds=0.02)
        await submit(scheduler, 1, seconds=1e9)
    budgets = [batch[0].micro_step_budget for batch in model.batches]
    assert 40 <= budgets[0] <= 50, "50 ms at 1 ms a micro-step"
    assert budgets[1] >= 40, "the slate itself always fits"
    assert budgets[2] == UNLIMITED_MICRO_STEPS


async def test_the_estimate_follows_the_model(running: Running) -> None:
    class Slow(Model):
        def generate(self, inputs: Sequence[Any], controls: Sequence[Controls]) -> list[Slate]:
            sleep(0.01)
            return super().generate(inputs, controls)

    model = Slow()
    async with running(model) as scheduler:
        for _ in range(12):
            await submit(scheduler, 1, seconds=0.5)
    budgets = [batch[0].micro_step_budget for batch in model.batches]
    assert budgets[0] > 400, "500 ms at the first estimate of 1 ms"
    assert budgets[-1] < 80, "and at about 10 ms"


async def test_stopping_answers_whoever_waits() -> None:
    model = Model()
    scheduler = Scheduler(
        model.generate,
        Metrics().for_model("m", "1"),
        max_batch_size=1,
        max_concurrency=8,
        seconds_per_micro_step=0.001,
    )
    scheduler.start()
    model.gate.clear()
    waiting = [submit(scheduler) for _ in range(3)]
    await asyncio.sleep(0.02)
    asyncio.get_running_loop().call_later(0.05, model.gate.set)
    await scheduler.stop()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, ModelError) for answer in answers)
