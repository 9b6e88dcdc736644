"""People who call the service: each tells who they are, asks for a list, and sends their clicks back.

What is not answered is sent again, with the same ids, as callers are told to do. Legend: K positions.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from queue import Queue
from time import monotonic, sleep
from typing import Any

from bundle.errors import RerankerError
from faults.traffic import Caller
from loop.people import People
from model.data.slate import LoggedSlate
from model.progress import progress

PATIENCE_S, AGAIN_S = 300.0, 0.1
"""Longest that a caller waits for the service, such as while it is restarted; and between two tries."""

DEADLINE_MS = 10_000.0


class LoopError(RerankerError):
    """The loop cannot go on; the message says why."""


@dataclass
class Counts:
    """Requests of every kind, each try by itself.

    Attributes:
        sent: `answered`, `failed` and `unanswered` together.
        failed: answered by an error.
        unanswered: nobody listened, or the connection broke.
        lists: that were asked for and came.
        fallbacks: of these, by no model.
        other_versions: of these, by a model that was not the live one.
        unknown: of these, to somebody whose context the service did not have.
        sampled: of these, for exploration.
        events: clicks that were sent back, each counted once, however often it was sent.
        accepted: of these, as the service says.
        repeated: events that were sent once more after they had been accepted.
    """

    sent: int = 0
    answered: int = 0
    failed: int = 0
    unanswered: int = 0
    lists: int = 0
    fallbacks: int = 0
    other_versions: int = 0
    unknown: int = 0
    sampled: int = 0
    events: int = 0
    accepted: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class Shown:
    """A list that somebody got, and what they did.

    Attributes:
        worth: its true value.
        accepted: ids of the clicks that the service took.
    """

    user_id: str
    recommendation_id: str
    order: list[int]
    worth: float
    clicks: int
    sampled: bool
    accepted: list[str]


class Callers:
    """Connections to a port, all counted together."""

    def __init__(self, port: int, connections: int) -> None:
        self._port, self._connections = port, connections
        self._lock = threading.Lock()
        self.counts = Counts()

    def serve(
        self,
        people: People,
        slates: Sequence[LoggedSlate],
        version: str,
        repeated: float,
        halfway: Callable[[], None],
    ) -> list[Shown]:
        """Everybody's list, in the order of the people.

        Args:
            version: of the live model.
            repeated: share of the people whose feedback is sent twice.
            halfway: called once, beside the traffic, when half of the lists are there.

        Raises:
            LoopError: the service refuses a request for good, or does not answer in time.
        """
        waiting = iter(range(len(slates)))
        done: Queue[tuple[int, Shown | BaseException]] = Queue()

        def work() -> None:
            caller = Caller([self._port])
            while (number := self._next(waiting)) is not None:
                twice = (number * repeated) % 1.0 + repeated >= 1.0
                try:
                    done.put((number, self._visit(caller, people, slates[number], version, twice)))
                except BaseException as error:
                    done.put((number, error))
                    break
            caller.close()

        for _ in range(self._connections):
            threading.Thread(target=work, daemon=True).start()
        found: dict[int, Shown] = {}
        for count in progress(range(1, len(slates) + 1), "lists served"):
            number, shown = done.get()
            if isinstance(shown, BaseException):
                raise shown
            found[number] = shown
            if count == (len(slates) + 1) // 2:
                halfway()
        return [found[number] for number in range(len(slates))]

    @contextmanager
    def passing_by(self, slates: Sequence[LoggedSlate]) -> Iterator[Counts]:
        """Nobody in particular asks for lists meanwhile; what became of it is counted apart."""
        apart, over = Callers(self._port, 1), threading.Event()

        def work() -> None:
            caller = Caller([self._port])
            while not over.is_set():
                for slate in slates:
                    apart._ask(caller, "POST", "/v1/rerank", {"items": _items(slate)}, 200)
                    if over.is_set():
                        break
            caller.close()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield apart.counts
        finally:
            over.set()
            thread.join()

    def _visit(self, caller: Caller, people: People, slate: LoggedSlate, version: str, twice: bool) -> Shown:
        self._ask(caller, "PUT", f"/v1/users/{slate.user_id}/context", {"profile": slate.user.profile}, 204)
        asked = {
            "request_id": slate.request_id,
            "user_id": slate.user_id,
            "items": _items(slate),
            "deadline_ms": DEADLINE_MS,
        }
        answer = self._ask(caller, "POST", "/v1/rerank", asked, 200)
        if answer is None or answer["recommendation_id"] is None:
            raise LoopError(f"{slate.request_id}: no list that feedback can be given on: {answer}")
        order = [result["index"] for result in answer["results"]]
        chances = people.chances(slate, order)
        clicks = people.clicks(slate, chances).nonzero()[0].tolist()
        events = [
            {
                "item_id": slate.candidates[order[place]],
                "type": "click",
                "position": place,
                "event_id": f"{slate.request_id}:{place}",
            }
            for place in clicks
        ]
        accepted = self._feed_back(caller, answer["recommendation_id"], events, twice) if events else []
        sampled = answer["sampling"] is not None
        self._count(
            lists=1,
            fallbacks=int(answer["fallback"] is not None),
            other_versions=int(answer["model_version"] != version),
            unknown=int(answer["context"] != "hit"),
            sampled=int(sampled),
        )
        made = answer["recommendation_id"]
        return Shown(slate.user_id, made, order, float(chances.sum()), len(clicks), sampled, accepted)

    def _feed_back(
        self, caller: Caller, recommendation_id: str, events: list[dict[str, Any]], twice: bool
    ) -> list[str]:
        """Ids of the events that were accepted."""
        body = {"recommendation_id": recommendation_id, "events": events}
        self._count(events=len(events))
        if self._ask(caller, "POST", "/v1/feedback", body, 202) is None:
            return []
        self._count(accepted=len(events))
        if twice:
            self._ask(caller, "POST", "/v1/feedback", body, 202)
            self._count(repeated=len(events))
        return [event["event_id"] for event in events]

    def _ask(
        self, caller: Caller, method: str, path: str, body: object, expected: int
    ) -> dict[str, Any] | None:
        """The answer, asked for until there is one; None if it is an error that asking again cannot mend.

        Raises:
            LoopError: there is none in time.
        """
        give_up = monotonic() + PATIENCE_S
        while True:
            try:
                status, answer = caller.ask(method, path, body)
            except (OSError, HTTPException, ValueError) as error:
                self._count(sent=1, unanswered=1)
                told = repr(error)
            else:
                good = status == expected
                self._count(sent=1, answered=int(good), failed=int(not good))
                if good:
                    return answer
                if status < 500 and status != 429:
                    return None
                told = f"{status}: {answer}"
            if monotonic() > give_up:
                raise LoopError(f"{method} {path} was not answered in {PATIENCE_S:g} s: {told}")
            sleep(AGAIN_S)

    def _next(self, numbers: Iterator[int]) -> int | None:
        with self._lock:
            return next(numbers, None)

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, count in more.items():
                setattr(self.counts, name, getattr(self.counts, name) + count)


def _items(slate: LoggedSlate) -> list[dict[str, Any]]:
    assert slate.scores is not None
    return [{"id": one, "score": score} for one, score in zip(slate.candidates, slate.scores, strict=True)]
