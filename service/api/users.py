"""The routes of users: their contexts, and what they did, with what they were recommended or else."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import time
from typing import Annotated
from urllib.parse import quote, unquote_to_bytes

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException

from bundle.features.history import UserContext
from service.api.access import ACCESS_ERRORS, needs
from service.api.answers import BODY_ERRORS, declared
from service.api.decoding import parse
from service.api.openapi import request_body
from service.api.request import identify, read_body, service_of
from service.api.validation import check_context, check_events, check_user_id
from service.bodies.users import (
    ContextBody,
    Event,
    EventsRequest,
    EventsResponse,
    FeedbackEvent,
    FeedbackRequest,
    FeedbackResponse,
    IgnoredEvent,
    IgnoredReason,
    interaction,
)
from service.context.store import Appended, is_anonymous
from service.context.store import Event as StoreEvent
from service.errors import (
    DecisionLogError,
    Fault,
    InvalidRequestError,
    NotFoundError,
    StoreUnavailableError,
    UnavailableError,
    UnknownRecommendationError,
)
from service.serving import decisions
from service.serving.request_features import check_profile, check_told, undeclared_of_profile

USERS = b"/v1/users/"


class _AnyText(Convertor[str]):
    """Starlette's `path` stops at a line feed."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyText())

CONTEXT, EVENTS = "/v1/users/{user_id:any}/context", "/v1/users/{user_id:any}/events"

router = APIRouter(tags=["context"])


async def _valid_user_id(
    request: Request,
    user_id: Annotated[str, Path(description="The id that reranks send as `user_id`.", examples=["u1"])],
) -> str:
    """The id as it was sent. The server has decoded the path by force, and merged ids that are no UTF-8."""
    _, found, rest = request.scope["raw_path"].partition(USERS)
    suffix = b"/" + request.scope["route"].path.rpartition("/")[2].encode()
    if not (found and rest.endswith(suffix)):  # a slash of the route itself was %-encoded
        raise HTTPException(404)
    try:
        sent = unquote_to_bytes(rest.removesuffix(suffix)).decode()
    except UnicodeDecodeError:
        raise InvalidRequestError([Fault("user_id", "expected UTF-8")]) from None
    check_user_id("user_id", sent, service_of(request).settings)
    return sent


UserId = Annotated[str, Depends(_valid_user_id)]


@router.post(
    "/v1/feedback",
    summary="Report what became of a recommendation",
    status_code=202,
    dependencies=[needs("feedback")],
    responses=declared(
        *ACCESS_ERRORS, UnknownRecommendationError, *BODY_ERRORS, UnavailableError, StoreUnavailableError
    ),
    openapi_extra=request_body(FeedbackRequest),
)
async def feedback(request: Request) -> FeedbackResponse:
    """Add events to the history of the recommendation's user.

    Guarantee: a rerank of that user that starts after the 202 sees the events. No 202, no guarantee either
    way: after a 503 the events may have been written. Events with an `event_id` may be sent again; they count
    once.
    """
    contexts = service_of(request).contexts
    body = parse(FeedbackRequest, await read_body(request))
    request_id = identify(request, body)
    _check(request, body)
    if is_anonymous(body.recommendation_id):
        ignored: Ignored = dict.fromkeys(range(len(body.events)), "anonymous")
        _count(request, body.events, ignored)
    else:
        append = partial(contexts.append, body.recommendation_id)
        log = partial(_log, request, body.recommendation_id)
        ignored = await _apply(request, body.events, append, log)
    return FeedbackResponse(
        request_id=request_id,
        accepted=len(body.events),
        applied=len(body.events) - len(ignored),
        ignored=Counter(ignored.values()),
        ignored_events=_told(ignored),
    )


@router.post(
    EVENTS,
    summary="Report what a user did outside any list",
    status_code=202,
    dependencies=[needs("feedback")],
    responses=declared(*ACCESS_ERRORS, *BODY_ERRORS, UnavailableError, StoreUnavailableError),
    openapi_extra=request_body(EventsRequest),
)
async def events(request: Request, user_id: UserId) -> EventsResponse:
    """Add events to the history of a user, known or not, with the guarantees of `/v1/feedback`."""
    body = parse(EventsRequest, await read_body(request))
    request_id = identify(request, body)
    _check(request, body)
    ignored = await _apply(request, body.events, partial(service_of(request).contexts.add, user_id))
    applied = len(body.events) - len(ignored)
    return EventsResponse(request_id=request_id, applied=applied, ignored=_told(ignored))


def _check(request: Request, body: FeedbackRequest | EventsRequest) -> None:
    """Raises: InvalidRequestError."""
    service = service_of(request)
    check_events(body, service.settings)
    if any(event.features for event in body.events):
        check_told(service.models.get().model.features, "events", body.events)


Ignored = dict[int, IgnoredReason]
"""Why events are not applied, by index."""


async def _apply(
    request: Request,
    events: Sequence[FeedbackEvent],
    append: Callable[[Sequence[StoreEvent]], Awaitable[Appended]],
    log: Callable[[float, str, Sequence[StoreEvent]], None] = lambda *_: None,
) -> Ignored:
    """Have those that count for something appended. Returns the others.

    Args:
        log: told of when those that were applied came, of whom they are, and of them.
    """
    received_at, types = time(), service_of(request).models.event_types
    ignored: Ignored = {n: "unknown_type" for n, event in enumerate(events) if event.type not in types}
    counting = [index for index in range(len(events)) if index not in ignored]
    known = [
        StoreEvent(interaction(events[index], received_at), events[index].event_id) for index in counting
    ]
    appended = await append(known)
    if appended.applied:
        applied = [event for index, event in enumerate(known) if index not in appended.ignored]
        log(received_at, appended.user_id, applied)
    ignored |= {counting[index]: reason for index, reason in appended.ignored.items()}
    _count(request, events, ignored)
    return ignored


def _log(
    request: Request, recommendation_id: str, at: float, user_id: str, events: Sequence[StoreEvent]
) -> None:
    log = service_of(request).decision_log
    if log is not None:
        log.put(partial(decisions.feedback, recommendation_id, user_id, at, events))


def _count(request: Request, events: Sequence[FeedbackEvent], ignored: Ignored) -> None:
    metrics = service_of(request).metrics
    metrics.feedback_events.inc(len(events))
    for reason, count in Counter(ignored.values()).items():
        metrics.feedback_ignored.labels(reason).inc(count)


def _told(ignored: Ignored) -> list[IgnoredEvent]:
    return [IgnoredEvent(index=index, reason=reason) for index, reason in sorted(ignored.items())]


@router.put(
    CONTEXT,
    summary="Replace a user's context",
    status_code=204,
    dependencies=[needs("users")],
    responses=declared(*ACCESS_ERRORS, *BODY_ERRORS, UnavailableError, StoreUnavailableError),
    openapi_extra=request_body(ContextBody),
)
async def put_context(request: Request, response: Response, user_id: UserId) -> None:
    """Replace whatever is known of the user by a profile and a history, oldest first.

    The header `x-ignored-fields` names what the default model has no field for, percent-encoded.
    """
    service = service_of(request)
    body = parse(ContextBody, await read_body(request))
    check_context(body, service.settings)
    features = service.models.get().model.features
    check_profile(features, body.profile)
    check_told(features, "history", body.history)
    if ignored := undeclared_of_profile(features, body.profile)[: service.settings.max_ignored_fields]:
        response.headers["x-ignored-fields"] = ",".join(quote(f"profile.{name}") for name in ignored)
    history = tuple(interaction(event) for event in body.history[-service.settings.max_history :])
    await service.contexts.replace(user_id, UserContext(body.profile, history))


@router.get(
    CONTEXT,
    summary="What is known of a user",
    dependencies=[needs("users")],
    responses=declared(*ACCESS_ERRORS, NotFoundError, InvalidRequestError, StoreUnavailableError),
)
async def get_context(request: Request, user_id: UserId) -> ContextBody:
    """The stored profile and history, oldest first."""
    known = await service_of(request).contexts.read(user_id)
    if known is None:
        raise NotFoundError("nothing is known of this user")
    history = [
        Event(
            item_id=event.item_id,
            type=event.type,
            timestamp=event.timestamp,
            features=None if event.features is None else dict(event.features),
        )
        for event in known.history
    ]
    return ContextBody(profile=dict(known.profile), history=history)


@router.delete(
    CONTEXT,
    summary="Forget a user",
    status_code=204,
    dependencies=[needs("users")],
    responses=declared(*ACCESS_ERRORS, InvalidRequestError, StoreUnavailableError, DecisionLogError),
)
async def delete_context(request: Request, user_id: UserId) -> None:
    """Delete everything about a person, known or not. Feedback on earlier recommendations then gets 404.

    Where decisions are logged, the log says so before this is answered. If it cannot, the answer is 503,
    although the store has forgotten, and the request may be sent again.
    """
    service = service_of(request)
    await service.contexts.forget(user_id)
    if service.decision_log is not None:
        await service.decision_log.forget(user_id)
