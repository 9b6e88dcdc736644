"""How many are refused a turn of the event loop."""

import asyncio

from service.serving.refusals import Refusals


async def test_only_so_many_a_turn() -> None:
    refusals, done = Refusals(3), list[int]()

    async def refused(number: int) -> None:
        await refusals.turn()
        done.append(number)

    tasks = [asyncio.create_task(refused(number)) for number in range(10)]
    a_turn, before = [], 0
    for _ in range(8):
        await asyncio.sleep(0)
        a_turn.append(len(done) - before)
        before = len(done)
    assert done == list(range(10))
    assert max(a_turn) == 3
    await asyncio.gather(*tasks)
    for _ in range(4):
        await asyncio.sleep(0)
    assert not refusals._turning, "and none when nobody is refused"


async def test_who_left_takes_nobodys_turn() -> None:
    refusals = Refusals(1)
    tasks = [asyncio.create_task(refusals.turn()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert tasks[1].cancelled()
    assert tasks[2].done()
