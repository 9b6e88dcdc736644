"""What requests take of the event loop, by a clock that the test moves."""

import pytest
from steered_clock import SteeredClock, turns

from service.serving.occupancy import RECENT, Occupancy


@pytest.fixture
def occupancy(clock: SteeredClock) -> Occupancy:
    return Occupancy(clock)


async def together(occupancy: Occupancy, clock: SteeredClock, count: int, seconds: float) -> None:
    """So many that are answered at once, after so long."""
    stays = [occupancy.stay(n) for n in range(count)]
    for stay in stays:
        stay.__enter__()
    clock.now += seconds
    for stay in stays:
        stay.__exit__()
    await turns()


async def test_each_takes_its_part_of_the_time(occupancy: Occupancy, clock: SteeredClock) -> None:
    for _ in range(RECENT):
        await together(occupancy, clock, 10, 0.02)
    assert occupancy.count == 0
    assert occupancy.each_s == pytest.approx(0.02 / 10, rel=0.4), (
        "whatever the order they are seen to leave in"
    )
    for _ in range(RECENT):
        await together(occupancy, clock, 1, 0.003)
    assert occupancy.each_s == pytest.approx(0.003)


async def test_a_stall_says_little(occupancy: Occupancy, clock: SteeredClock) -> None:
    for number in range(RECENT):
        await together(occupancy, clock, 1, 5.0 if number % 3 == 0 else 0.001)
    assert occupancy.each_s == pytest.approx(0.001)


async def test_an_answer_counts_until_it_is_sent(occupancy: Occupancy, clock: SteeredClock) -> None:
    with occupancy.stay("a"):
        pass
    assert occupancy.count == 1
    clock.now += 0.004  # of others, in the same turn
    await turns()
    assert occupancy.count == 0
    assert occupancy.each_s == pytest.approx(0.004)


async def test_waiting_for_others_takes_nothing(occupancy: Occupancy, clock: SteeredClock) -> None:
    with occupancy.stay("a") as stay:
        with stay.away():
            clock.now += 1.0
        clock.now += 0.002
    await turns()
    assert occupancy.each_s == pytest.approx(0.002)


async def test_a_greedy_caller_does_not_count_as_many(occupancy: Occupancy, clock: SteeredClock) -> None:
    await together(occupancy, clock, 1, 0.001)
    stays = [occupancy.stay(caller) for caller in ("greedy",) * 20 + ("other",)]
    for stay in stays:
        stay.__enter__()
    assert occupancy.all_s == pytest.approx(0.022)
    assert occupancy.share_s("greedy") == pytest.approx(0.022)
    assert occupancy.share_s("other") == pytest.approx(0.004), "two of each"
    assert occupancy.share_s("new") == pytest.approx(0.003), "one of each"
    for stay in stays:
        stay.__exit__()
    await turns()
