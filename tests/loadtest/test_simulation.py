"""The simulation of a worker, against what queueing theory and counting by hand say of the same."""

from dataclasses import replace

import pytest

from loadtest.simulation import Rules, Times, closed_loop, open_loop, rate_within

NO_BATCHES = Rules(max_batch_size=1, deadline_s=1e6)
ONE_MS = Times(wire_s=0.0, wakes_s=(), rounds_s=((1, 0.0),), request_s=0.0, alone_s=(0.001,), marginal=1.0)
"""Nothing but inference."""


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_without_batches_it_is_a_queue_with_constant_service(load: float) -> None:
    """M/D/1: the mean time is s + s * load / 2 / (1 - load) (Pollaczek and Khinchine)."""
    found = open_loop(ONE_MS, NO_BATCHES, 1000 * load, 30_000)
    mean_ms = 1000 * sum(found.seconds) / len(found.seconds)
    assert mean_ms == pytest.approx(1 + load / 2 / (1 - load), rel=0.08)
    assert (found.late, found.refused) == (0, 0)


def test_one_that_comes_alone_takes_all_its_parts() -> None:
    times = Times(
        wire_s=0.1,
        wakes_s=((1e-9, (0.02,)),),
        rounds_s=((1, 0.003),),
        request_s=0.0004,
        alone_s=(0.00005,),
        marginal=1.0,
    )
    found = open_loop(times, NO_BATCHES, 0.1, 5)
    assert found.seconds == pytest.approx([0.1 + 0.02 + 0.003 + 0.0004 + 0.00005] * 5)
    assert times.lone_s == pytest.approx(0.003 + 0.0004 + 0.00005)


def test_a_longer_pause_costs_more() -> None:
    times = replace(ONE_MS, wakes_s=((0.002, (0.001, 0.003)), (0.004, (0.003, 0.009))))
    assert [times.wake_s(pause, 0.2) for pause in (0.0, 0.001, 0.002, 0.003, 1.0)] == pytest.approx(
        [0.0, 0.0005, 0.001, 0.002, 0.003]
    )
    assert times.wake_s(0.003, 0.7) == pytest.approx(0.006)
    found = open_loop(times, NO_BATCHES, 1.0, 2000)
    assert sum(found.seconds) / 2000 == pytest.approx(0.001 + 0.006, rel=0.05)


def test_a_batch_shares_what_is_not_marginal() -> None:
    """Sixteen connections in a closed loop: each round is a batch of sixteen."""
    times = replace(ONE_MS, marginal=0.25)
    found = closed_loop(times, Rules(batch_s=1.0), 16, 16 * 50)
    assert len(found.seconds) == 16 * 50
    assert found.until_s == pytest.approx(50 * (0.25 * 16 + 0.75) * 0.001, rel=0.05)
    short = closed_loop(times, Rules(batch_s=0.0020), 16, 16 * 50)
    assert short.until_s == pytest.approx(160 * (0.25 * 5 + 0.75) * 0.001, rel=0.05), "five fit into 2 ms"


def test_a_round_takes_what_its_batch_says() -> None:
    times = replace(ONE_MS, rounds_s=((1, 0.001), (3, 0.002), (5, 0.006)))
    assert [times.round_s(size) for size in (1, 2, 3, 4, 5, 16)] == pytest.approx(
        [0.001, 0.0015, 0.002, 0.004, 0.006, 0.006]
    )
    found = closed_loop(replace(times, marginal=0.25), Rules(batch_s=1.0), 3, 3 * 50)
    assert found.until_s == pytest.approx(50 * (0.001 * (0.25 * 3 + 0.75) + 0.002), rel=0.05)


def test_deadlines_bound_the_wait_of_whoever_is_answered() -> None:
    rules = Rules(max_batch_size=1, deadline_s=0.02)
    found = open_loop(ONE_MS, rules, 2000, 20_000)
    assert len(found.seconds) + found.late + found.refused == 20_000
    assert found.refused > 5000, "half of what comes is too much"
    assert max(found.seconds) < 0.02 + 0.002
    assert len(found.seconds) / found.until_s == pytest.approx(1000, rel=0.05), "it does what it can"


def test_interruptions_come_as_often_as_the_loop_is_busy() -> None:
    """One request in a hundred is interrupted for 50 ms, and so are those that wait behind it."""
    times = replace(ONE_MS, extras_s=(0.0,) * 99 + (0.05,))
    alone = open_loop(times, NO_BATCHES, 1.0, 10_000)
    assert sum(one > 0.04 for one in alone.seconds) == pytest.approx(100, rel=0.3)
    busy = open_loop(times, NO_BATCHES, 300.0, 10_000)
    assert sum(one > 0.04 for one in busy.seconds) > 200


def test_the_rate_is_the_highest_that_keeps_the_objective() -> None:
    rate = rate_within(ONE_MS, NO_BATCHES, 10.0, count=5000)
    assert open_loop(ONE_MS, NO_BATCHES, rate, 5000).quantile_ms(0.99) <= 10.0
    assert open_loop(ONE_MS, NO_BATCHES, 1.1 * rate, 5000).quantile_ms(0.99) > 10.0
    with pytest.raises(ValueError, match=r"^p99_ms: .* alone takes longer than 0.5 ms"):
        rate_within(ONE_MS, NO_BATCHES, 0.5)
