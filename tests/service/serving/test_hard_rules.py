"""Rules that take long to judge: beside the event loop, in turns, in time or not at all."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from service.errors import DeadlineExceededError, InvalidRequestError, OverloadedError, RateLimitedError
from service.serving.hard_rules import AT_FIRST_S, HardRules

LATER = 1e9
"""A deadline, by a clock that stands still."""


def free(seconds: float) -> None:
    assert seconds > 0.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def hard_rules(clock: Clock) -> AsyncIterator[HardRules]:
    made = HardRules(max_queue=8, clock=clock)
    yield made
    await made.stop()


class Held:
    """A judgment that ends when it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __call__(self) -> str:
        self.let_go.wait()
        return threading.current_thread().name


async def begun(judging: Callable[[], object], rules: HardRules, caller: str = "a") -> "asyncio.Task[object]":
    task = asyncio.create_task(rules.judge(judging, LATER, caller, free))
    await asyncio.sleep(0)
    return task


async def test_the_event_loop_goes_on_meanwhile(hard_rules: HardRules) -> None:
    held = Held()
    task = await begun(held, hard_rules)
    assert not task.done()
    held.let_go.set()
    assert str(await task).startswith("rules")


async def test_what_it_raises_is_raised(hard_rules: HardRules) -> None:
    def invalid() -> None:
        raise InvalidRequestError([])

    for _ in range(2):
        with pytest.raises(InvalidRequestError):
            await hard_rules.judge(invalid, LATER, "a", free)


async def test_callers_take_turns(hard_rules: HardRules) -> None:
    held, order = Held(), list[str]()
    tasks = [await begun(held, hard_rules)]
    for caller in ("greedy", "greedy", "greedy", "modest"):
        tasks.append(await begun(lambda caller=caller: order.append(caller), hard_rules, caller))
    held.let_go.set()
    await asyncio.gather(*tasks)
    assert order == ["greedy", "modest", "greedy", "greedy"]


async def test_whoever_would_be_late_is_turned_away_and_not_charged(hard_rules: HardRules) -> None:
    held, charged = Held(), list[float]()
    first = await begun(held, hard_rules)
    with pytest.raises(OverloadedError, match="rules"):
        await hard_rules.judge(held, 1.5 * AT_FIRST_S, "b", charged.append)
    assert charged == []
    in_time = asyncio.create_task(hard_rules.judge(held, LATER, "b", charged.append))
    await asyncio.sleep(0)
    held.let_go.set()
    await asyncio.gather(first, in_time)
    assert charged == [AT_FIRST_S]


async def test_no_more_wait_than_may(hard_rules: HardRules) -> None:
    held = Held()
    tasks = [await begun(held, hard_rules) for _ in range(1 + 8)]
    with pytest.raises(OverloadedError):
        await hard_rules.judge(held, LATER, "b", free)
    held.let_go.set()
    await asyncio.gather(*tasks)


async def test_nobody_waits_beyond_the_deadline(hard_rules: HardRules) -> None:
    """And what nobody waits for is not judged, but for what was begun."""
    held, judged = Held(), list[int]()
    with pytest.raises(DeadlineExceededError, match="rules"):
        await hard_rules.judge(held, 0.01, "a", free)
    late = asyncio.create_task(hard_rules.judge(lambda: judged.append(1), LATER, "a", free))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.wait([late])
    held.let_go.set()
    await hard_rules.judge(lambda: None, LATER, "a", free)
    assert judged == []


async def test_a_key_at_its_limit_is_refused(hard_rules: HardRules) -> None:
    def refuse(_: float) -> None:
        raise RateLimitedError(1.0)

    with pytest.raises(RateLimitedError):
        await hard_rules.judge(lambda: None, LATER, "a", refuse)
    await hard_rules.judge(lambda: None, LATER, "a", free)


async def test_what_is_predicted_follows_what_it_takes(hard_rules: HardRules, clock: Clock) -> None:
    charged: list[float] = []
    for _ in range(5):

        def slow() -> None:
            clock.now += 2.0

        await hard_rules.judge(slow, LATER, "a", charged.append)
    assert charged[0] == AT_FIRST_S
    assert charged[-1] == 2.0
