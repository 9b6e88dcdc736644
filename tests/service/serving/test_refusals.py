"""How many are refused while others are answered, and while nobody is."""

import asyncio
from itertools import pairwise

import pytest
from steered_clock import turns

from service.serving.occupancy import Occupancy
from service.serving.refusals import A_TURN, AN_ANSWER, Refusals


@pytest.fixture
def occupancy() -> Occupancy:
    return Occupancy()


async def waiting(refusals: Refusals, count: int) -> list["asyncio.Task[None]"]:
    tasks = [asyncio.create_task(refusals.turn()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_few_a_turn_while_nobody_is_answered(occupancy: Occupancy) -> None:
    refusals = Refusals(occupancy)
    tasks = await waiting(refusals, 3 * A_TURN)
    refused = []
    for _ in range(6):
        await asyncio.sleep(0)
        refused.append(sum(task.done() for task in tasks))
    assert refused[0] == A_TURN
    assert all(after - before <= A_TURN for before, after in pairwise(refused))
    assert [task.done() for task in tasks] == [True] * len(tasks)
    await turns()
    assert not refusals._turning, "and the loop rests"


async def test_then_by_the_answers(occupancy: Occupancy) -> None:
    refusals = Refusals(occupancy)
    stays = [occupancy.stay("a") for _ in range(11)]
    for stay in stays:
        stay.__enter__()
    tasks = await waiting(refusals, A_TURN + 20)
    await turns()
    assert sum(task.done() for task in tasks) == A_TURN, "an idle loop had as many left"
    for stay in stays[:10]:
        stay.__exit__()
    await turns()
    assert sum(task.done() for task in tasks) == A_TURN + 10 * AN_ANSWER
    stays[10].__exit__()
    await turns()
    assert all(task.done() for task in tasks), "nobody is there any more"


async def test_who_left_takes_nobodys_turn(occupancy: Occupancy) -> None:
    refusals = Refusals(occupancy)
    with occupancy.stay("a"):
        tasks = await waiting(refusals, A_TURN + 3)
        tasks[A_TURN].cancel()
        await turns()
        with occupancy.stay("a"), occupancy.stay("b"):
            pass
        await turns()
        assert [task.done() for task in tasks[A_TURN:]] == [True, True, False]
        assert tasks[A_TURN].cancelled()
    await turns()
    assert tasks[-1].done()
