"""The load generator measures what it says, on servers whose delays are known."""

import numpy as np
import pytest
from slow_server import serving

from bench.client import closed_loop, open_loop, post

BODIES = [b'{"n": %d}' % n for n in range(7)]
REQUESTS = [post("/v1/rerank", body) for body in BODIES]


def test_closed_loop_measures_delay_and_throughput() -> None:
    with serving(0.01) as port:
        run = closed_loop(port, REQUESTS, connections=4, seconds=1.0)
    assert run.failed == 0
    assert run.latencies_ms.min() >= 10.0
    # Four callers of a server with room for one: each waits for the other three.
    assert 20.0 <= np.median(run.latencies_ms) <= 120.0
    assert 30.0 <= run.per_second <= 100.0
    assert run.client_cpu_share < 0.5


def test_every_request_is_sent_in_turn_and_every_answer_judged() -> None:
    answers: list[bytes] = []

    def judge(status: int, body: bytes) -> bool:
        answers.append(body)
        return status == 200 and body != BODIES[3]

    with serving(0.001) as port:
        run = closed_loop(port, REQUESTS, connections=1, seconds=0.3, judge=judge)
    assert answers[:9] == (BODIES * 2)[:9]
    assert run.failed == answers.count(BODIES[3]) > 0
    assert len(run.latencies_ms) == len(answers)


def test_open_loop_sends_at_the_rate_whatever_the_server_does() -> None:
    with serving(0.001) as port:
        run = open_loop(port, REQUESTS, rate=200.0, seconds=1.0)
    assert len(run.latencies_ms) == 200
    assert np.median(run.lags_ms) < 5.0


def test_open_loop_shows_the_stall_that_a_closed_loop_hides() -> None:
    with serving(0.001, stalled=20, stall_s=0.5) as port:
        closed = closed_loop(port, REQUESTS, connections=1, seconds=1.5)
    with serving(0.001, stalled=20, stall_s=0.5) as port:
        opened = open_loop(port, REQUESTS, rate=200.0, seconds=1.5, connections=8)
    # One caller met the stall; a hundred requests were due during it, more than there are connections.
    assert (closed.latencies_ms > 200.0).sum() <= 3
    assert (opened.latencies_ms > 200.0).sum() >= 40


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
