"""Callers of the service, what became of everything they sent, and what their users' histories then hold.

A caller is a thread with one keep-alive connection of its own, which checks nothing and repeats no rerank: it
only leaves when an answer asks it to. In a closed loop it pauses after each; in an open loop requests are due
as a Poisson process, and whoever is free sends the next. Feedback is repeated until it is accepted, with the
same `event_id`, as callers are told to do. Knows the API, but nothing of what is being broken.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import count
from time import monotonic, sleep
from typing import Any, Self

SILENCE_S = 10.0
"""A caller that hears nothing for so long gives up."""
PAUSE_S = 0.02
AGAIN_S = 0.1
DEADLINE_MS = 1000.0
CANDIDATES = 10

Answer = tuple[int, dict[str, Any]]


@dataclass
class Tally:
    """What callers saw. Everything sent is answered, degraded or failed.

    Attributes:
        answered: by the model, with the user's history.
        degraded: 200 as well, but with the caller's order (`fallback`), or without the history.
        failed: any other answer, or none.
        reasons: of what was degraded or failed, by reason.
        seconds: of every answer, the failed ones too; in an open loop since it was due.
        accepted: events whose feedback was answered with 202.
        repeated: feedback that was sent again.
        lost, doubled: accepted events that are not in the user's history, or more than once.
        measured: what else is told of this fault.
    """

    sent: int = 0
    answered: int = 0
    degraded: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    accepted: int = 0
    repeated: int = 0
    lost: int = 0
    doubled: int = 0
    measured: dict[str, str] = field(default_factory=dict)

    @property
    def p99_ms(self) -> float:
        times = sorted(self.seconds)
        return 1000 * times[min(len(times) - 1, int(0.99 * len(times)))] if times else float("nan")

    def slower_than(self, seconds: float) -> int:
        """Answers that took longer."""
        return sum(took > seconds for took in self.seconds)


class Caller:
    """One connection to any of the ports, kept for as long as answers allow it."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._connection = HTTPConnection("127.0.0.1", self._ports[0], timeout=SILENCE_S)

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Status and body.

        Raises:
            OSError, HTTPException, ValueError: there was no answer, or none that can be read.
        """
        content = None if body is None else json.dumps(body).encode()
        try:
            if self._connection.sock is None:
                self._connect()
            self._connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else {}
        except (OSError, HTTPException, ValueError):
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def _connect(self) -> None:
        """To the first port on which somebody listens, in an order of chance.

        Raises:
            OSError: nobody does.
        """
        random.shuffle(self._ports)
        for port in self._ports:
            self._connection = HTTPConnection("127.0.0.1", port, timeout=SILENCE_S)
            try:
                self._connection.connect()
                return
            except ConnectionRefusedError as error:
                refused = error
        raise refused


class Traffic:
    """`with Traffic([port], items) as traffic:` callers ask until the block ends; `tally` has the result.

    A caller connects to any of the ports. Each asks for a user of its own, and clicks on an item of its own
    in every list that it gets.
    """

    def __init__(
        self,
        ports: Sequence[int],
        items: Sequence[str],
        callers: int = 8,
        pause_s: float = PAUSE_S,
        rate: float | None = None,
    ) -> None:
        """
        Args:
            items: that the model knows.
            pause_s: of a caller after each request, in a closed loop.
            rate: of requests a second in an open loop, for which there must be callers enough.
        """
        self._ports, self._items, self._pause_s, self._rate = ports, items, pause_s, rate
        self._due, self._random = 0.0, random.Random(0)
        self._over, self._lock = threading.Event(), threading.Lock()
        self.tally = Tally()
        self._clicked: dict[str, list[str]] = {f"caller-{number}": [] for number in range(callers)}
        self._threads = [
            threading.Thread(target=self._call, args=(user_id,), daemon=True) for user_id in self._clicked
        ]

    def __enter__(self) -> Self:
        for user_id in self._clicked:
            caller = Caller(self._ports)
            answer = caller.ask("PUT", f"/v1/users/{user_id}/context", {})
            assert answer[0] == 204, f"nothing is broken yet: {answer}"
            caller.close()
        self._due = monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._audit()

    def _call(self, user_id: str) -> None:
        caller = Caller(self._ports)
        for number in count():
            if self._over.is_set():
                break
            item_id = f"{user_id}-{number}"
            recommendation_id = self._rerank(caller, user_id, item_id, self._wait())
            if recommendation_id is not None and self._accepted(caller, recommendation_id, item_id):
                self._clicked[user_id].append(item_id)
        caller.close()

    def _wait(self) -> float:
        """Until the next request is due; returns when that was."""
        if self._rate is None:
            sleep(self._pause_s)
            return monotonic()
        with self._lock:
            self._due += self._random.expovariate(self._rate)
            due = self._due
        sleep(max(0.0, due - monotonic()))
        return due

    def _rerank(self, caller: Caller, user_id: str, item_id: str, since: float) -> str | None:
        """Ask for a list, and return its id if feedback on it is possible."""
        items = [{"id": one} for one in (item_id, *self._items[: CANDIDATES - 1])]
        try:
            status, body = caller.ask(
                "POST", "/v1/rerank", {"user_id": user_id, "items": items, "deadline_ms": DEADLINE_MS}
            )
            reason = _reason(status, body)
        except (OSError, HTTPException, ValueError) as error:
            status, body, reason = 0, {}, type(error).__name__
        with self._lock:
            self.tally.sent += 1
            self.tally.seconds.append(monotonic() - since)
            self.tally.answered += reason is None
            self.tally.degraded += reason is not None and status == 200
            self.tally.failed += status != 200
            if reason is not None:
                self.tally.reasons[reason] += 1
        made: str | None = body.get("recommendation_id") if status == 200 else None
        return made

    def _accepted(self, caller: Caller, recommendation_id: str, item_id: str) -> bool:
        """Report a click until it is accepted, or refused for good, or everything is over."""
        event = {"type": "click", "item_id": item_id, "event_id": item_id}
        body = {"recommendation_id": recommendation_id, "events": [event]}
        while True:
            try:
                status, _ = caller.ask("POST", "/v1/feedback", body)
            except (OSError, HTTPException, ValueError):
                status = 0
            if status == 202:
                with self._lock:
                    self.tally.accepted += 1
                return True
            if self._over.is_set() or (400 <= status < 500 and status != 429):
                return False
            with self._lock:
                self.tally.repeated += 1
            sleep(AGAIN_S)

    def _audit(self) -> None:
        """Look for every accepted click in its user's history."""
        caller = Caller(self._ports)
        for user_id, clicked in self._clicked.items():
            history = _history(caller, user_id)
            found = Counter(event["item_id"] for event in history if event["type"] == "click")
            self.tally.lost += sum(item_id not in found for item_id in clicked)
            self.tally.doubled += sum(found[item_id] > 1 for item_id in clicked)
        caller.close()


def _history(caller: Caller, user_id: str) -> list[dict[str, Any]]:
    """Of a user, as soon as the service can tell.

    Raises:
        TimeoutError: it cannot, for `SILENCE_S`.
    """
    give_up = monotonic() + SILENCE_S
    while monotonic() < give_up:
        try:
            status, body = caller.ask("GET", f"/v1/users/{user_id}/context")
        except (OSError, HTTPException, ValueError):
            status, body = 0, {}
        if status in (200, 404):
            found: list[dict[str, Any]] = body.get("history", [])
            return found
        sleep(AGAIN_S)
    raise TimeoutError(f"the service tells no history of {user_id}")


def _reason(status: int, body: dict[str, Any]) -> str | None:
    """Why an answer is not what it should be; None if it is."""
    if status != 200:
        return str(body.get("error_type", status))
    if body["fallback"] is not None:
        return f"fallback {body['fallback']}"
    return None if body["context"] == "hit" else f"user {body['context']}"
