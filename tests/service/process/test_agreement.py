"""How a supervisor has workers agree, message by message, over real pipes."""

from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import pytest

from service.process import changes
from service.process.changes import (
    Agreement,
    GiveUp,
    Outcome,
    Prepare,
    Propose,
    Ready,
    Started,
    Switch,
    Switched,
    ToWorker,
)
from service.serving.plan import Arm, Model, Pin, Plan

FIRST = Plan({"films": Model((Arm(Pin("/1", "films", "1", "m"), 1.0),))}, "films")
SECOND = FIRST.reloaded([Pin("/2", "films", "2", "m")])


@dataclass(eq=False)
class Seen:
    """A worker as the supervisor sees it, and its own end of the pipe."""

    number: int
    pipe: Connection | None
    own: Connection
    serving: bool = False

    def says(self, agreement: "Agreement[Seen]", message: Any) -> None:
        self.own.send_bytes(msgspec.json.encode(message))
        agreement.heard(self)

    def hears(self) -> list[ToWorker]:
        heard = []
        while self.own.poll():
            heard.append(msgspec.json.decode(self.own.recv_bytes(), type=ToWorker))
        return heard


@pytest.fixture
def agreement() -> "Agreement[Seen]":
    return Agreement(FIRST, 60.0)


@pytest.fixture
def workers(agreement: "Agreement[Seen]") -> list[Seen]:
    """Three that serve."""
    made = [Seen(number, *Pipe()) for number in range(3)]
    for worker in made:
        worker.says(agreement, Started())
    return made


def prepared(agreement: "Agreement[Seen]", workers: list[Seen]) -> None:
    """All of them get ready, one after another."""
    for worker in workers:
        assert agreement.go_on(workers) == []
        assert [one.hears() for one in workers if one is not worker] == [[], []], "one at a time"
        assert worker.hears() == [Prepare(1, SECOND)]
        assert agreement.plan is FIRST
        worker.says(agreement, Ready(1))


def test_all_switch_once_all_are_ready(agreement: "Agreement[Seen]", workers: list[Seen]) -> None:
    workers[1].says(agreement, Propose(SECOND))
    prepared(agreement, workers)
    assert agreement.go_on(workers) == []
    assert agreement.plan == SECOND
    assert [worker.hears() for worker in workers] == [[Switch(1)]] * 3
    for worker in workers:
        assert workers[1].hears() == [], "told when all have switched"
        worker.says(agreement, Switched(1))
    assert workers[1].hears() == [Outcome("done")]
    assert agreement.go_on(workers) == []


def test_one_that_is_not_ready_stops_all(agreement: "Agreement[Seen]", workers: list[Seen]) -> None:
    workers[2].says(agreement, Propose(SECOND))
    agreement.go_on(workers)
    workers[0].says(agreement, Ready(1))
    agreement.go_on(workers)
    workers[1].says(agreement, Ready(1, "films 2 is broken"))
    assert agreement.plan is FIRST
    assert workers[0].hears() == [Prepare(1, SECOND), GiveUp(1)]
    assert workers[2].hears() == [Outcome("refused", "films 2 is broken")]
    workers[0].says(agreement, Propose(SECOND))
    assert agreement.go_on(workers) == []
    assert workers[0].hears() == [Prepare(2, SECOND)], "another attempt may follow"
    workers[1].says(agreement, Ready(1))
    assert agreement.go_on(workers) == [], "what is late is not heard"


def test_one_that_dies_of_it_stops_all(agreement: "Agreement[Seen]", workers: list[Seen]) -> None:
    workers[1].says(agreement, Propose(SECOND))
    agreement.go_on(workers)
    workers[0].pipe, workers[0].serving = None, False
    agreement.gone(workers[0])
    assert workers[1].hears() == [Outcome("refused", "worker 0 died of it")]
    assert agreement.go_on(workers) == []
    assert agreement.plan is FIRST


def test_one_that_dies_when_it_was_ready_stops_nobody(
    agreement: "Agreement[Seen]", workers: list[Seen]
) -> None:
    workers[1].says(agreement, Propose(SECOND))
    prepared(agreement, workers)
    workers[0].pipe, workers[0].serving = None, False
    agreement.gone(workers[0])
    assert agreement.go_on(workers) == []
    assert agreement.plan == SECOND
    for worker in workers[1:]:
        worker.says(agreement, Switched(1))
    assert workers[1].hears() == [Switch(1), Outcome("done")]


def test_one_that_is_starting_is_started_anew(agreement: "Agreement[Seen]", workers: list[Seen]) -> None:
    late = Seen(3, *Pipe())
    workers[0].says(agreement, Propose(SECOND))
    prepared(agreement, workers)
    assert agreement.go_on([*workers, late]) == [late]
    assert late.hears() == []


def test_one_that_starts_meanwhile_gets_ready_too(agreement: "Agreement[Seen]", workers: list[Seen]) -> None:
    late = Seen(3, *Pipe())
    workers[0].says(agreement, Propose(SECOND))
    prepared(agreement, workers)
    late.says(agreement, Started())
    assert agreement.go_on([*workers, late]) == []
    assert late.hears() == [Prepare(1, SECOND)]
    assert agreement.plan is FIRST


def test_one_that_does_not_switch_is_replaced(
    agreement: "Agreement[Seen]", workers: list[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "SWITCH_S", 0.0)
    workers[0].says(agreement, Propose(SECOND))
    prepared(agreement, workers)
    agreement.go_on(workers)
    for worker in workers[:2]:
        worker.says(agreement, Switched(1))
    assert agreement.go_on(workers) == [workers[2]]
    workers[2].pipe, workers[2].serving = None, False
    agreement.gone(workers[2])
    assert workers[0].hears() == [Switch(1), Outcome("done")]


def test_a_change_that_takes_too_long_is_given_up(workers: list[Seen]) -> None:
    agreement: Agreement[Seen] = Agreement(FIRST, 0.0)
    agreement.propose(SECOND, workers[0])
    agreement.go_on(workers)
    outcome = workers[0].hears()[-1]
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, agreement.plan) == ("timeout", FIRST)


def test_there_is_one_change_at_a_time(agreement: "Agreement[Seen]", workers: list[Seen]) -> None:
    workers[0].says(agreement, Propose(SECOND))
    workers[1].says(agreement, Propose(SECOND))
    assert workers[1].hears() == [Outcome("conflict", "another change is under way")]
    prepared(agreement, workers)
    agreement.go_on(workers)
    for worker in workers:
        worker.says(agreement, Switched(1))
    workers[2].says(agreement, Propose(SECOND))
    assert isinstance(workers[2].hears()[-1], Outcome), "it was made of a plan that is gone"


def test_without_anybody_who_serves_the_plan_is_for_those_who_start(agreement: "Agreement[Seen]") -> None:
    starting = Seen(0, *Pipe())
    agreement.propose(SECOND)
    assert agreement.go_on([starting]) == [starting]
    assert agreement.plan == SECOND
