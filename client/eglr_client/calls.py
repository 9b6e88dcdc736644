"""What each call sends, and what it makes of the answers, without sending: a call is a generator that yields
what is to be done next, `Send` or `Wait`, and is sent what came of it. So `Client` and `AsyncClient` differ
in nothing but how they wait.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from random import random
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

from eglr_client.bodies import (
    Event,
    EventsAnswer,
    FeedbackAnswer,
    Item,
    Ranking,
    Result,
    UserContext,
    from_json,
    to_json,
)
from eglr_client.errors import AnswerError, UnreachableError


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request, and wait for its answer until a time of the monotonic clock, in seconds."""

    method: str
    path: str
    body: Any
    until: float


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is None if it is not a JSON object."""

    status: int
    body: dict[str, Any] | None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """`timed_out` if the time was over; else the connection could not be made, or broke."""

    reason: str
    timed_out: bool


Made = TypeVar("Made")
Call = Generator[Send | Wait, Answer | NoAnswer | None, Made]

ELSEWHERE = (502, 503)
"""Another replica may do it at once."""

LATER = (429, 500, 502, 503, 504)
"""It may be tried again; a rerank, whose time is short, falls back."""

PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


def rerank(
    items: Sequence[Item | str | Mapping[str, Any]],
    body: Mapping[str, Any],
    deadline_ms: float,
    network_ms: float,
    retries: int,
) -> Call[Ranking]:
    """
    Args:
        body: the rest of the request.
        deadline_ms: of the whole call, retries included.
        network_ms: of it, what is not the service's.
    """
    until = monotonic() + deadline_ms / 1e3
    sent = [{"id": one} if isinstance(one, str) else to_json(one) for one in items]
    request: dict[str, Any] = {"request_id": uuid4().hex, **to_json(body), "items": sent}
    failed: AnswerError | UnreachableError = UnreachableError("no time was left")
    for _ in range(1 + retries):
        left_ms = (until - monotonic()) * 1e3 - network_ms
        if left_ms <= 0:
            break
        came = yield Send("POST", "/v1/rerank", {**request, "deadline_ms": left_ms}, until)
        if isinstance(came, NoAnswer):
            failed = UnreachableError(came.reason)
            if came.timed_out:
                break
            continue
        assert came is not None
        if came.status == 200 and came.body is not None:
            return from_json(Ranking, came.body)
        failed = _error(came)
        if came.status not in LATER:
            raise failed
        if came.status not in ELSEWHERE:
            break
    if request.get("strict") or request.get("constraints"):
        raise failed
    count = len(sent) if request.get("return_all") else request.get("top_n", len(sent))
    given = tuple(Result(one["id"], index) for index, one in enumerate(sent[:count]))
    return Ranking(request["request_id"], given, fallback="unreachable")


def feedback(recommendation_id: str, events: Sequence[Event], timeout_s: float) -> Call[FeedbackAnswer]:
    body = {"recommendation_id": recommendation_id, "events": _identified(events)}
    answer = yield from _until_answered("POST", "/v1/feedback", body, timeout_s)
    return from_json(FeedbackAnswer, answer)


def events(user_id: str, happened: Sequence[Event], timeout_s: float) -> Call[EventsAnswer]:
    body = {"events": _identified(happened)}
    answer = yield from _until_answered("POST", f"{_user(user_id)}/events", body, timeout_s)
    return from_json(EventsAnswer, answer)


def put_context(user_id: str, context: UserContext, timeout_s: float) -> Call[None]:
    body = {"profile": dict(context.profile), "history": [to_json(one) for one in context.history]}
    yield from _until_answered("PUT", f"{_user(user_id)}/context", body, timeout_s)


def get_context(user_id: str, timeout_s: float) -> Call[UserContext | None]:
    try:
        answer = yield from _until_answered("GET", f"{_user(user_id)}/context", None, timeout_s)
    except AnswerError as error:
        if error.status == 404 and error.error_type == "not_found":
            return None
        raise
    return from_json(UserContext, answer)


def forget(user_id: str, timeout_s: float) -> Call[None]:
    yield from _until_answered("DELETE", f"{_user(user_id)}/context", None, timeout_s)


def models(timeout_s: float) -> Call[dict[str, Any]]:
    return (yield from _until_answered("GET", "/v1/models", None, timeout_s))


def _until_answered(method: str, path: str, body: Any, timeout_s: float) -> Call[dict[str, Any]]:
    """Of what may be sent again without doing it twice."""
    until, pause_s = monotonic() + timeout_s, PAUSE_S
    while True:
        came = yield Send(method, path, body, until)
        wait_s = pause_s * (0.5 + random())  # so that those who failed together do not come back together
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        if isinstance(came, NoAnswer):
            failed: AnswerError | UnreachableError = UnreachableError(came.reason)
        else:
            assert came is not None
            if came.status < 300:
                return came.body or {}
            failed = _error(came)
            if came.status not in LATER:
                raise failed
            wait_s = max(wait_s, failed.retry_after_s or 0.0)
        if monotonic() + wait_s >= until:
            raise failed
        yield Wait(wait_s)


def _identified(events: Sequence[Event]) -> list[dict[str, Any]]:
    return [{"event_id": uuid4().hex, **to_json(event)} for event in events]


def _user(user_id: str) -> str:
    # A segment of dots alone would be taken for a step in the path.
    return "/v1/users/" + quote(user_id, safe="").replace(".", "%2E")


def _error(answer: Answer) -> AnswerError:
    body = answer.body or {}
    wrong = body.get("fields") or []
    try:
        retry_after_s = None if answer.retry_after is None else float(answer.retry_after)
    except ValueError:  # a date, which this service does not send
        retry_after_s = None
    return AnswerError(
        answer.status,
        str(body.get("error", "no error of this service; perhaps a proxy's")),
        body.get("error_type"),
        {one["field"]: one["message"] for one in wrong},
        body.get("request_id"),
        retry_after_s,
    )
