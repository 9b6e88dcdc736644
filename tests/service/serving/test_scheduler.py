"""The scheduler, with a stand-in for the model and a clock that the test moves.

Long, because every rule of it is asked of the same stand-in.
"""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
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
from service.serving.cost import CostModel, Timing
from service.serving.scheduler import Scheduler

A_STEP_S = 2**-10
"""Predicted seconds of each position and token, so that budgets come out even."""

COSTS = CostModel([Timing(n, 0.0, A_STEP_S, A_STEP_S) for n in (1, 5000)], marginal=1.0)


class Model:
    """Remembers its batches. Can be held up, and fails on any batch with a request of length `poison`. Where
    it is given a clock, it takes `slowness` times what is predicted."""

    def __init__(self, poison: int = -1, clock: SteeredClock | None = None, slowness: float = 1.0) -> None:
        self.clock, self.slowness = clock, slowness
        self.batches: list[list[Controls]] = []
        self.threads: list[int] = []
        self.gate = Gate()
        self.gate.set()
        self.poison = poison

    def generate(self, inputs: Sequence[Any], controls: Sequence[Controls]) -> list[Slate]:
        assert self.gate.wait(60)
        self.threads.append(threading.get_ident())
        self.batches.append(list(controls))
        if self.clock is not None:
            self.clock.now += self.slowness * A_STEP_S * sum(request.slate_length for request in controls)
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


Running = Callable[..., AbstractAsyncContextManager[Scheduler]]


@pytest.fixture
def running(clock: SteeredClock) -> Running:
    @asynccontextmanager
    async def running(model: Model, **limits: Any) -> AsyncIterator[Scheduler]:
        """With `batch_s=0` every request is a long one, which runs in a thread and can be held."""
        given = {"max_batch_size": 4, "max_queue": 8, "batch_s": 1.0, "engine_clock": clock, **limits}
        costs = given.pop("costs", COSTS)
        scheduler = Scheduler(model.generate, Metrics().for_model("m", "1"), costs, clock=clock, **given)
        scheduler.start()
        yield scheduler
        model.gate.set()
        await scheduler.stop()

    return running


def submit(
    scheduler: Scheduler,
    clock: SteeredClock,
    length: int = 1,
    seconds: float = 5.0,
    caller: str = "",
    candidates: int = 1,
) -> "asyncio.Task[Slate]":
    inputs = {"candidate_numeric": np.zeros((candidates, 1), np.float32)}
    return asyncio.create_task(scheduler.generate(inputs, controls(length), clock() + seconds, caller))


def lengths(model: Model) -> list[list[int]]:
    return [[request.slate_length for request in batch] for batch in model.batches]


async def test_a_lone_request_does_not_wait_for_others(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model) as scheduler:
        assert await submit(scheduler, clock, 3) == slate(3)
    assert lengths(model) == [[3]]


async def test_only_what_is_long_by_itself_leaves_the_event_loop(
    running: Running, clock: SteeredClock
) -> None:
    here = threading.get_ident()
    an_item_s = A_STEP_S * (1 + controls().reasoning_budget)
    for length, threads in ((2, {here}), (3, set())):
        model = Model()
        async with running(model, batch_s=2.5 * an_item_s) as scheduler:
            await submit(scheduler, clock, length)
        assert len(model.threads) == 1
        assert set(model.threads) & {here} == threads


async def test_what_queues_up_meanwhile_is_the_next_batch(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model) as scheduler:
        tasks = [submit(scheduler, clock, length) for length in range(2, 8)]
        assert await asyncio.gather(*tasks) == [slate(length) for length in range(2, 8)]
    assert lengths(model) == [[2, 3, 4, 5], [6, 7]]


async def test_a_batch_is_bounded_in_time(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model, batch_s=20 * A_STEP_S) as scheduler:
        await asyncio.gather(*(submit(scheduler, clock, 5, caller=str(n)) for n in range(7)))
        assert await submit(scheduler, clock, 5)
    assert [len(batch) for batch in model.batches] == [4, 3, 1]


async def test_only_like_lengths_share_a_batch(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model) as scheduler:
        sizes = {1: 100, 2: 1000, 3: 80, 4: 900, 5: 74}
        await asyncio.gather(
            *(submit(scheduler, clock, length, 5.0, f"{n}", n) for length, n in sizes.items())
        )
    assert lengths(model) == [[1, 3], [2, 4], [5]]


async def test_long_requests_run_beside_short_ones_and_one_at_a_time(
    running: Running, clock: SteeredClock
) -> None:
    model = Model()
    async with running(model, batch_s=10 * A_STEP_S) as scheduler:
        model.gate.clear()
        long = [submit(scheduler, clock, 20 + n, candidates=20 + n) for n in range(2)]
        await eventually(model.gate.reached.is_set)
        model.gate.set()
        short = [submit(scheduler, clock, 1, caller=str(n)) for n in range(3)]
        await asyncio.gather(*short, *long)
    assert sorted(lengths(model)) == [[1, 1, 1], [20], [21]]


async def test_nobody_is_late_because_of_company(running: Running, clock: SteeredClock) -> None:
    """34 and 30 steps do not fit into 50; with a deadline of 84 both go together, and reason for 20."""
    for limit, expected in ((50, [[34], [30]]), (84, [[34, 30]])):
        model = Model(clock=clock)
        async with running(model) as scheduler:
            asked = [
                submit(scheduler, clock, 34, limit * A_STEP_S, "one"),
                submit(scheduler, clock, 30, 1.0, "another"),
            ]
            await asyncio.gather(*asked)
        assert lengths(model) == expected
        assert model.batches[0][0].deadline - model.batches[0][0].reason_until == A_STEP_S * sum(expected[0])


async def test_long_requests_have_company_where_that_is_cheap(
    running: Running, clock: SteeredClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model()
    async with running(model, batch_s=0.0) as scheduler:
        monkeypatch.setattr(scheduler._costs, "marginal", 0.25)
        await asyncio.gather(*(submit(scheduler, clock, 5, caller=str(n)) for n in range(4)))
    assert [len(batch) for batch in model.batches] == [4]


async def test_the_queue_has_a_limit(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model, max_queue=2, batch_s=0.0) as scheduler:
        admitted = [await model.hold(scheduler, clock), submit(scheduler, clock), submit(scheduler, clock)]
        await turns()
        with pytest.raises(OverloadedError):
            await submit(scheduler, clock)
        model.gate.set()
        await asyncio.gather(*admitted)
        await submit(scheduler, clock)


async def test_who_is_predicted_to_be_late_is_refused(running: Running, clock: SteeredClock) -> None:
    """Behind 10 steps in inference, less 2 that have passed, and 20 that wait."""
    model = Model()
    async with running(model, batch_s=0.0) as scheduler:
        model.gate.clear()
        waiting = [submit(scheduler, clock, 10 // 4)]
        await eventually(model.gate.reached.is_set)
        waiting.append(submit(scheduler, clock, 20))
        await turns()
        in_inference = 2 * (1 + controls().reasoning_budget)
        needed = (in_inference + 20 + 5) * A_STEP_S
        scheduler.admit(5, controls(5), clock() + needed, "")
        with pytest.raises(OverloadedError) as caught:
            scheduler.admit(5, controls(5), clock() + needed - 0.1 * A_STEP_S, "")
        assert caught.value.retry_after_s == 1
        await clock.advance(in_inference * A_STEP_S)
        scheduler.admit(5, controls(5), clock() + 25 * A_STEP_S, "")
        scheduler.admit(5, controls(5), clock() + 15 * A_STEP_S, "another")
        model.gate.set()
        await asyncio.gather(*waiting)
        scheduler.admit(5, controls(5), clock(), ""), "nobody is before it: it is tried"


async def test_the_rest_of_the_loops_work_counts_too(running: Running, clock: SteeredClock) -> None:
    """A quick model behind an event loop that each request takes 2 ms of."""
    model = Model(clock=clock)
    async with running(model) as scheduler:
        price = scheduler.admit(5, controls(5), clock() + 1.0, "a")
        with scheduler.stay(price, "a"):
            clock.now += 0.002
        await turns()
        scheduler.admit(5, controls(5), clock(), "a"), "nobody is before it: it is tried"
        with scheduler.stay(price, "a"), scheduler.stay(price, "a"), scheduler.stay(price, "b"):
            scheduler.admit(5, controls(5), clock() + 0.0081, "a")
            scheduler.admit(5, controls(5), clock() + 0.0061, "c"), "one of each caller's is before it"
            with pytest.raises(OverloadedError):
                scheduler.admit(5, controls(5), clock() + 0.0079, "a")
        await turns()


async def test_what_runs_in_a_thread_takes_nothing_of_the_loop(running: Running, clock: SteeredClock) -> None:
    async with running(Model(clock=clock), batch_s=0.0) as scheduler:
        price = scheduler.admit(5, controls(5), clock() + 1.0, "a")
        with scheduler.stay(price, "a"):
            clock.now += 0.5
        await turns()
        with scheduler.stay(price, "a"):
            scheduler.admit(5, controls(5), clock() + 0.1, "b")
        await turns()


async def test_a_stall_sheds_nobody_whose_deadline_is_far(running: Running, clock: SteeredClock) -> None:
    """What came while the event loop stood still for 50 ms is there at once."""
    model = Model(clock=clock)
    async with running(model, max_queue=1024, max_batch_size=16, lag_s=lambda: 0.05) as scheduler:
        asked = [submit(scheduler, clock, 5, 1.0, str(caller)) for caller in range(72)]
        assert await asyncio.gather(*asked) == [slate(5)] * 72


async def test_retry_after_is_the_wait_that_is_predicted(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model, batch_s=0.0) as scheduler:
        first = await model.hold(scheduler, clock)
        second = submit(scheduler, clock, 2500, 100.0, candidates=2500)
        await turns()
        with pytest.raises(OverloadedError, match="try again in 3 s") as caught:
            scheduler.admit(5, controls(5), clock() + 1.0, "")
        assert caught.value.retry_after_s == 3
        model.gate.set()
        await asyncio.gather(first, second)


async def test_one_poisonous_request_does_not_fail_the_others(running: Running, clock: SteeredClock) -> None:
    model = Model(poison=3)
    async with running(model) as scheduler:
        tasks = [submit(scheduler, clock, length) for length in (2, 3, 4, 5)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [a for a in answers if isinstance(a, Slate)] == [slate(n) for n in (2, 4, 5)]
        assert isinstance(answers[1], ModelError)
        assert await submit(scheduler, clock, 6) == slate(6), "the scheduler lives on"
    assert lengths(model) == [[2, 3, 4, 5], [2], [3], [4], [5], [6]]


async def test_a_wrong_answer_of_the_model_is_its_fault(running: Running, clock: SteeredClock) -> None:
    class Confused(Model):
        def generate(self, inputs: Sequence[Any], controls: Sequence[Controls]) -> list[Slate]:
            return []

    async with running(Confused()) as scheduler:
        for _ in range(2):
            with pytest.raises(ModelError):
                await submit(scheduler, clock)


async def test_a_slate_that_was_left_short_is_late(running: Running, clock: SteeredClock) -> None:
    class Cut(Model):
        def generate(self, inputs: Sequence[Any], controls: Sequence[Controls]) -> list[Slate]:
            return [slate(request.slate_length - 1) for request in controls]

    async with running(Cut()) as scheduler:
        with pytest.raises(DeadlineExceededError) as caught:
            await submit(scheduler, clock, 3)
        assert caught.value.stage == "infer"


async def test_inference_is_not_waited_for_beyond_the_deadline(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model, batch_s=0.0) as scheduler:
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
    async with running(model, batch_s=0.0) as scheduler:
        first = await model.hold(scheduler, clock)
        late = submit(scheduler, clock, 2, seconds=0.05)
        await turns()
        await clock.advance(0.05)
        with pytest.raises(DeadlineExceededError) as caught:
            await late
        assert caught.value.stage == "queue"
        model.gate.set()
        await first
        await submit(scheduler, clock, 3)
    assert lengths(model) == [[1], [3]]


async def test_a_deadline_is_seen_before_its_timer(running: Running, clock: SteeredClock) -> None:
    """As when the event loop was busy: what is taken from the queue is looked at first."""
    model = Model()
    async with running(model, batch_s=0.0) as scheduler:
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
    assert lengths(model) == [[1]]


async def test_a_request_given_up_in_the_queue_frees_its_place(running: Running, clock: SteeredClock) -> None:
    model = Model()
    async with running(model, max_queue=1, batch_s=0.0) as scheduler:
        first = await model.hold(scheduler, clock)
        late = submit(scheduler, clock, seconds=0.03)
        await turns()
        with pytest.raises(OverloadedError):
            scheduler.admit(1, controls(), math.inf, "")
        await clock.advance(0.03)
        with pytest.raises(DeadlineExceededError):
            await late
        abandoned = submit(scheduler, clock)
        await turns()
        abandoned.cancel()
        await turns()
        scheduler.admit(1, controls(), math.inf, "")
        model.gate.set()
        await first


@pytest.mark.parametrize(
    ("length", "seconds", "budget"),
    [(2, 50 * A_STEP_S, 50), (40, 40.5 * A_STEP_S, 40), (1, 1e9, UNLIMITED_MICRO_STEPS)],
    ids=["what fits", "the slate itself always", "no end"],
)
async def test_remaining_time_caps_the_micro_steps(
    running: Running, clock: SteeredClock, length: int, seconds: float, budget: int
) -> None:
    model = Model()
    async with running(model) as scheduler:
        await submit(scheduler, clock, length, seconds)
    ((request,),) = model.batches
    assert request.micro_step_budget == budget
    assert request.reason_until == seconds - length * A_STEP_S
    assert request.deadline == seconds


async def test_reasoning_is_shed_for_the_batch_and_for_who_waits(
    running: Running, clock: SteeredClock
) -> None:
    """Three slates of 10 come together, by the deadline of the one that has least time; and a fourth, which
    does not fit into their batch, waits for it."""
    model = Model(clock=clock)
    async with running(model, max_batch_size=3) as scheduler:
        times = (1000 * A_STEP_S, 60 * A_STEP_S, 1000 * A_STEP_S, 65 * A_STEP_S)
        await asyncio.gather(
            *(submit(scheduler, clock, 10, seconds, str(n)) for n, seconds in enumerate(times))
        )
    first, second = model.batches
    assert {request.reason_until for request in first} == {25 * A_STEP_S}, "65, less 10 behind it, less 30"
    assert {request.micro_step_budget for request in first} == {10 + 25 // 3}
    assert second[0].reason_until == 55 * A_STEP_S


@pytest.mark.parametrize(("seconds", "lookahead"), [(8 * A_STEP_S, 0), (10 * A_STEP_S, 2)])
async def test_what_lookahead_costs_at_least_is_time_or_it_is_shed(
    running: Running, clock: SteeredClock, seconds: float, lookahead: int
) -> None:
    """A slate of two; the evaluator's encoder takes as long as six positions."""
    model = Model()
    timings = [Timing(n, 0.0, A_STEP_S, A_STEP_S, 6 * A_STEP_S, A_STEP_S) for n in (1, 5000)]
    async with running(model, costs=CostModel(timings, marginal=1.0)) as scheduler:
        inputs = {"candidate_numeric": np.zeros((4, 1), np.float32)}
        await scheduler.generate(inputs, replace(controls(2), lookahead=2), clock() + seconds)
    ((request,),) = model.batches
    assert request.lookahead == lookahead


async def test_the_pace_follows_the_model(running: Running, clock: SteeredClock) -> None:
    model = Model(clock=clock, slowness=10)
    async with running(model) as scheduler:
        for _ in range(3):
            await submit(scheduler, clock, 1, seconds=500 * A_STEP_S)
    assert [batch[0].micro_step_budget for batch in model.batches] == [500, 50, 50]


async def test_stopping_answers_whoever_waits(clock: SteeredClock) -> None:
    model = Model()
    metrics = Metrics().for_model("m", "1")
    scheduler = Scheduler(
        model.generate, metrics, COSTS, max_batch_size=1, max_queue=8, batch_s=0.0, clock=clock
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
