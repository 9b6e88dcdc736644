"""Shares of callers, whatever they ask for."""

from collections import Counter
from dataclasses import dataclass

import pytest

from service.serving.fairness import REMEMBERED, FairQueue


@dataclass(eq=False)
class Job:
    caller: str
    cost_s: float
    deadline: float = 1.0


def one_at_a_time(queue: FairQueue[Job]) -> Job:
    (job,) = queue.take(lambda _: True, 1)
    return job


def test_time_is_shared_not_requests() -> None:
    """Both always have work; one's is ten times as large."""
    queue: FairQueue[Job] = FairQueue()
    costs = {"greedy": 1.0, "modest": 0.1}
    for caller, cost in costs.items():
        queue.push(Job(caller, cost))
    served: Counter[str] = Counter()
    for _ in range(220):
        job = one_at_a_time(queue)
        served[job.caller] += 1
        queue.push(Job(job.caller, job.cost_s))
    assert served["greedy"] == pytest.approx(20, abs=1)
    assert served["modest"] == pytest.approx(200, abs=1)


def test_a_queue_full_of_one_caller_does_not_hold_up_another() -> None:
    queue: FairQueue[Job] = FairQueue()
    for _ in range(500):
        queue.push(Job("greedy", 1.0))
    one_at_a_time(queue)
    queue.push(Job("modest", 1.0))
    assert "modest" in {one_at_a_time(queue).caller for _ in range(2)}


def test_who_was_away_has_saved_up_nothing() -> None:
    queue: FairQueue[Job] = FairQueue()
    for _ in range(100):
        queue.push(Job("steady", 1.0))
    for _ in range(50):
        one_at_a_time(queue)
    for _ in range(50):
        queue.push(Job("late", 1.0))
    assert Counter(one_at_a_time(queue).caller for _ in range(20))["late"] == pytest.approx(10, abs=1)


def test_within_a_caller_the_earliest_deadline_goes_first() -> None:
    queue: FairQueue[Job] = FairQueue()
    for deadline in (3.0, 1.0, 2.0):
        queue.push(Job("one", 1.0, deadline))
    assert [job.deadline for job in queue.take(lambda _: True, 9)] == [1.0, 2.0, 3.0]


def test_what_is_not_wanted_stays_and_lets_others_pass() -> None:
    queue: FairQueue[Job] = FairQueue()
    for caller, cost in (("a", 1.0), ("b", 5.0), ("c", 1.0)):
        queue.push(Job(caller, cost))
    assert [job.caller for job in queue.take(lambda job: job.cost_s < 2.0, 9)] == ["a", "c"]
    assert [job.caller for job in queue] == ["b"]
    assert (len(queue), queue.seconds) == (1, 5.0)


def test_what_goes_before_a_request_is_its_share() -> None:
    queue: FairQueue[Job] = FairQueue()
    for _ in range(10):
        queue.push(Job("greedy", 1.0))
    queue.push(Job("modest", 0.5))
    assert queue.ahead_s("greedy", 1.0) == pytest.approx(10.5)
    assert queue.ahead_s("modest", 0.25) == pytest.approx(0.5 + 0.75)
    assert queue.ahead_s("new", 0.25) == pytest.approx(0.25 + 0.25)


def test_work_can_be_taken_back() -> None:
    queue: FairQueue[Job] = FairQueue()
    job, other = Job("one", 1.0), Job("one", 2.0)
    queue.push(job)
    queue.push(other)
    assert queue.remove(job)
    assert not queue.remove(job)
    assert not queue.remove(Job("nobody", 1.0))
    assert (len(queue), queue.seconds, list(queue)) == (1, 2.0, [other])


def test_callers_that_have_gone_are_forgotten() -> None:
    queue: FairQueue[Job] = FairQueue()
    queue.push(Job("always", 1e9))
    for number in range(3 * REMEMBERED):
        queue.push(Job(str(number), 1.0))
        queue.take(lambda job: job.caller != "always", 9)
    assert len(queue._finished) == REMEMBERED
