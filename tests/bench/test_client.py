"""The load generator measures what it says, on servers whose delays are known.

A busy machine may be as slow as it likes: what is asserted are bounds that time itself sets.
"""

import numpy as np
import pytest
from slow_server import serving

from bench.client import closed_loop, open_loop, post, send_all

BODIES = [b'{"n": %d}' % n for n in range(7)]
REQUESTS = [post("/v1/rerank", body) for body in BODIES]


def test_closed_loop_measures_delay_and_throughput() -> None:
    with serving(0.01) as port:
        run = closed_loop(port, REQUESTS, connections=4, seconds=1.0)
    assert run.failed == 0
    assert run.latencies_ms.min() >= 10.0
    assert run.per_second <= 100.0, "there is room for one at a time"
    # Little's law: as many are under way as there are connections, but for the last four, of which each
    # finds fewer beside it: 2.5 on average.
    under_way = run.latencies_ms.sum() / 1000 / run.seconds
    assert 2.5 <= under_way <= 4.0
    assert run.client_cpu_share < 0.5, "it waits, and does not spin"


def test_every_request_is_sent_in_turn_and_every_answer_judged() -> None:
    answers: list[bytes] = []

    def judge(status: int, body: bytes) -> bool:
        answers.append(body)
        return status == 200 and body != BODIES[3]

    with serving(0.001) as port:
        run = send_all(port, REQUESTS * 2, judge=judge)
        assert answers == BODIES * 2
        assert (run.failed, len(run.latencies_ms)) == (2, 14)
        answers.clear()
        run = closed_loop(port, REQUESTS, connections=1, seconds=0.1, judge=judge)
    assert answers == [BODIES[n % 7] for n in range(len(answers))]
    assert (run.failed, len(run.latencies_ms)) == (answers.count(BODIES[3]), len(answers))


def test_open_loop_sends_when_due_whatever_the_server_does() -> None:
    stall_s = 2.0
    with serving(0.0, stalled=0, stall_s=stall_s) as port:
        run = open_loop(port, REQUESTS, rate=200.0, seconds=0.5)
    due_s = np.cumsum(np.random.default_rng(0).exponential(1 / 200, 100))
    assert len(run.latencies_ms) == len(run.lags_ms) == 100
    assert run.seconds > due_s[-1], "none before it was due"
    assert run.lags_ms.min() >= 0
    # Nobody was answered before the stall was over, and yet all but those the machine held up were sent.
    assert np.median(run.lags_ms) < 1000 * stall_s / 2


def test_waiting_for_a_connection_is_not_the_clients_lateness() -> None:
    """Everybody waits for the one connection, 20 ms each, hence longer and longer."""
    with serving(0.02) as port:
        run = open_loop(port, REQUESTS, rate=100.0, seconds=0.5, connections=1)
    assert run.lags_ms.max() > 300.0
    assert np.median(run.late_ms) < np.median(run.lags_ms) / 2
    assert (run.late_ms <= run.lags_ms).all()
    assert run.late_ms.min() >= 0.0


def test_what_is_sent_before_the_window_does_not_count() -> None:
    with serving(0.0) as port:
        run = open_loop(port, REQUESTS, rate=200.0, seconds=0.5, lead_s=0.5)
    due_s = np.cumsum(np.random.default_rng(0).exponential(1 / 200, 200))
    assert 0 < (due_s >= 0.5).sum() == len(run.latencies_ms) == len(run.good_ms) == len(run.lags_ms) < 200
    assert run.seconds > due_s[-1] - 0.5


def test_open_loop_shows_the_stall_that_a_closed_loop_hides() -> None:
    stall_s, seconds = 0.5, 1.5
    with serving(0.001, stalled=20, stall_s=stall_s) as port:
        closed = closed_loop(port, REQUESTS, connections=1, seconds=seconds)
    with serving(0.001, stalled=20, stall_s=stall_s) as port:
        opened = open_loop(port, REQUESTS, rate=200.0, seconds=seconds, connections=8)
    # One caller has no time for more requests that long; of those due in the stall's first half, some 50,
    # all waited for the other half, though there are fewer connections.
    longest = seconds / (stall_s / 2) + 1
    assert (closed.latencies_ms > 500 * stall_s).sum() <= longest
    assert (opened.latencies_ms > 500 * stall_s).sum() >= 40 > longest


def test_bad_answers_are_no_throughput() -> None:
    with serving(0.001, status=503) as port:
        run = closed_loop(port, REQUESTS, connections=2, seconds=0.2)
    assert run.failed == len(run.latencies_ms) > 0
    assert run.per_second == 0.0


def test_a_server_that_is_gone_is_an_error() -> None:
    with serving(0.0) as port:
        pass
    with pytest.raises(ConnectionError):
        closed_loop(port, REQUESTS, connections=1, seconds=0.1)
