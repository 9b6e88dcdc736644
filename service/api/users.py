"""The routes of users: their contexts, and feedback on what they were recommended."""

from time import time
from typing import Annotated
from urllib.parse import quote, unquote_to_bytes

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException

from bundle.features.history import Interaction, UserContext
from service.api.access import ACCESS_ERRORS, needs
from service.api.answers import BODY_ERRORS, declared
from service.api.decoding import parse
from service.api.openapi import request_body
from service.api.request import identify, read_body, service_of
from service.api.validation import check_context, check_feedback, check_user_id
from service.bodies.users import ContextBody, Event, FeedbackRequest, FeedbackResponse
from service.context.store import Appended, is_anonymous
from service.context.store import Event as StoreEvent
from service.errors import (
    Fault,
    InvalidRequestError,
    NotFoundError,
    StoreUnavailableError,
    UnavailableError,
    UnknownRecommendationError,
)
from service.serving.request_features import check_profile, undeclared_of_profile

USERS, CONTEXT_SUFFIX = b"/v1/users/", b"/context"


class _AnyText(Convertor[str]):
    """Starlette's `path` stops at a line feed."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyText())

CONTEXT = "/v1/users/{user_id:any}/context"

router = APIRouter(tags=["context"])


async def _valid_user_id(
    request: Request,
    user_id: Annotated[str, Path(description="The id that reranks send as `user_id`.", examples=["u1"])],
) -> str:
    """The id as it was sent. The server has decoded the path by force, and merged ids that are no UTF-8."""
    _, found, rest = request.scope["raw_path"].partition(USERS)
    if not (found and rest.endswith(CONTEXT_SUFFIX)):  # a slash of the route itself was %-encoded
        raise HTTPException(404)
    try:
        sent = unquote_to_bytes(rest.removesuffix(CONTEXT_SUFFIX)).decode()
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
    responses=declared(*ACCESS_ERRORS, UnknownRecommendationError, *BODY_ERRORS, StoreUnavailableError),
    openapi_extra=request_body(FeedbackRequest),
)
async def feedback(request: Request) -> FeedbackResponse:
    """Add events to the history of the recommendation's user.

    Guarantee: a rerank of that user that starts after the 202 sees the events. No 202, no guarantee either
    way: after a 503 the events may have been written. Events with an `event_id` may be sent again; they count
    once.
    """
    service = service_of(request)
    body = parse(FeedbackRequest, await read_body(request))
    request_id = identify(request, body)
    check_feedback(body, service.settings)
    received_at = time()
    count = len(body.events)
    if is_anonymous(body.recommendation_id):
        appended = Appended(0, {"anonymous": count})
    else:
        events = [StoreEvent(_interaction(event, received_at), event.event_id) for event in body.events]
        appended = await service.contexts.append(body.recommendation_id, events)
    service.metrics.feedback_events.inc(count)
    for reason, ignored in appended.ignored.items():
        service.metrics.feedback_ignored.labels(reason).inc(ignored)
    return FeedbackResponse.model_validate(
        {"request_id": request_id, "accepted": count, **appended._asdict()}
    )


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
    if ignored := undeclared_of_profile(features, body.profile)[: service.settings.max_ignored_fields]:
        response.headers["x-ignored-fields"] = ",".join(quote(f"profile.{name}") for name in ignored)
    history = tuple(_interaction(event) for event in body.history[-service.settings.max_history :])
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
    history = [Event(item_id=e.item_id, type=e.type, timestamp=e.timestamp) for e in known.history]
    return ContextBody(profile=dict(known.profile), history=history)


@router.delete(
    CONTEXT,
    summary="Forget a user",
    status_code=204,
    dependencies=[needs("users")],
    responses=declared(*ACCESS_ERRORS, InvalidRequestError, StoreUnavailableError),
)
async def delete_context(request: Request, user_id: UserId) -> None:
    """Delete everything about a person, known or not. Feedback on earlier recommendations then gets 404."""
    await service_of(request).contexts.forget(user_id)


def _interaction(event: Event, received_at: float | None = None) -> Interaction:
    return Interaction(event.item_id, event.type, received_at if event.timestamp is None else event.timestamp)
