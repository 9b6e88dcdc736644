"""The HTTP routes: read and check a body, call the one who knows, answer. Nothing is decided here."""

from dataclasses import dataclass
from time import monotonic, time
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from bundle.features.history import Interaction, UserContext
from service.api.answers import declared
from service.api.openapi import body
from service.api.validation import check_context, check_feedback, check_id, check_rerank, parse
from service.bodies.models import Health, ModelList
from service.bodies.rerank import RerankRequest, RerankResponse
from service.bodies.users import ContextBody, Event, FeedbackRequest, FeedbackResponse
from service.context.store import ContextStore
from service.errors import (
    BodyTooLargeError,
    DeadlineExceededError,
    InvalidRequestError,
    ModelError,
    NotFoundError,
    OverloadedError,
    StoreUnavailableError,
    UnavailableError,
    UnknownRecommendationError,
)
from service.observe.metrics import Metrics
from service.serving.registry import Models
from service.serving.request_features import check_profile
from service.serving.reranking import Reranker
from service.settings import Settings

RERANK, RERANK_WITH = "/v1/rerank", "/v1/models/{model}/rerank"

BODY_ERRORS = (BodyTooLargeError, InvalidRequestError)
RERANK_ERRORS = (*BODY_ERRORS, OverloadedError, UnavailableError, ModelError, DeadlineExceededError)

router = APIRouter()

UserId = Annotated[str, Path(description="The id that reranks send as `user_id`.", examples=["u1"])]


@dataclass
class Service:
    """What the routes work with: `app.state.service`. Wired in `app.create_app`."""

    settings: Settings
    metrics: Metrics
    contexts: ContextStore
    models: Models
    reranker: Reranker
    draining: bool = False


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.post(
    RERANK,
    tags=["rerank"],
    summary="Re-rank a list",
    response_model=RerankResponse,
    responses=declared(*RERANK_ERRORS),
    openapi_extra=body(RerankRequest),
)
async def rerank(request: Request) -> Response:
    """Re-rank a list of candidates for a user.

    A missed deadline, overload or a fault of the model is answered with 200, the caller's order and
    `fallback`; with `strict`, with 504, 429 or 503. A context store that is down makes the user anonymous.
    """
    return Response(await rerank_body(request, None), media_type="application/json")


@router.post(
    RERANK_WITH,
    tags=["rerank"],
    summary="Re-rank a list with a named model",
    response_model=RerankResponse,
    responses=declared(NotFoundError, *RERANK_ERRORS),
    openapi_extra=body(RerankRequest),
)
async def rerank_with(request: Request, model: Annotated[str, Path(examples=["eglr"])]) -> Response:
    """As `/v1/rerank`, with the model of this name."""
    return Response(await rerank_body(request, model), media_type="application/json")


async def rerank_body(request: Request, model: str | None) -> bytes:
    """The body of the answer to either rerank route."""
    service, arrived = service_of(request), monotonic()
    with service.models.get(model) as served:
        content = await _read(request)
        with service.metrics.stage("parse"):
            wanted = parse(RerankRequest, content)
            request_id = _request_id(request, wanted.request_id)
            check_rerank(wanted, service.settings)
        return msgspec.json.encode(await service.reranker.rerank(served, wanted, request_id, arrived))


@router.post(
    "/v1/feedback",
    tags=["context"],
    summary="Report what became of a recommendation",
    status_code=202,
    response_model=FeedbackResponse,
    responses=declared(UnknownRecommendationError, *BODY_ERRORS, StoreUnavailableError),
    openapi_extra=body(FeedbackRequest),
)
async def feedback(request: Request) -> Response:
    """Add events to the history of the recommendation's user.

    Guarantee: a rerank of that user that starts after the 202 sees the events. No 202, no guarantee either
    way: after a 503 the events may have been written.
    """
    service = service_of(request)
    received = parse(FeedbackRequest, await _read(request))
    request_id = _request_id(request, received.request_id)
    check_feedback(received, service.settings)
    now = time()
    events = [_interaction(event, now) for event in received.events]
    applied = await service.contexts.append(received.recommendation_id, events)
    service.metrics.feedback_events.inc(len(events))
    return _json(FeedbackResponse(request_id=request_id, accepted=len(events), applied=applied), 202)


@router.put(
    "/v1/users/{user_id:path}/context",
    tags=["context"],
    summary="Replace a user's context",
    status_code=204,
    responses=declared(*BODY_ERRORS, UnavailableError, StoreUnavailableError),
    openapi_extra=body(ContextBody),
)
async def put_context(request: Request, user_id: UserId) -> Response:
    """Put a profile and a history, oldest first, in place of whatever was known of the user."""
    service = service_of(request)
    check_id("user_id", user_id, service.settings)
    given = parse(ContextBody, await _read(request))
    check_context(given, service.settings)
    check_profile(service.models.get().model.features, given.profile)
    history = tuple(_interaction(event, None) for event in given.history)
    await service.contexts.replace(user_id, UserContext(given.profile, history))
    return Response(status_code=204)


@router.get(
    "/v1/users/{user_id:path}/context",
    tags=["context"],
    summary="What is known of a user",
    response_model=ContextBody,
    responses=declared(NotFoundError, InvalidRequestError, StoreUnavailableError),
)
async def get_context(request: Request, user_id: UserId) -> Response:
    """The stored profile and history, oldest first."""
    service = service_of(request)
    check_id("user_id", user_id, service.settings)
    context = await service.contexts.read(user_id)
    if context is None:
        raise NotFoundError("nothing is known of this user")
    history = [Event(item_id=e.item_id, type=e.type, timestamp=e.timestamp) for e in context.history]
    return _json(ContextBody(profile=dict(context.profile), history=history))


@router.delete(
    "/v1/users/{user_id:path}/context",
    tags=["context"],
    summary="Forget a user",
    status_code=204,
    responses=declared(InvalidRequestError, StoreUnavailableError),
)
async def delete_context(request: Request, user_id: UserId) -> Response:
    """Delete everything of a person, known or not. Feedback on earlier recommendations then gets 404."""
    service = service_of(request)
    check_id("user_id", user_id, service.settings)
    await service.contexts.forget(user_id)
    return Response(status_code=204)


@router.get("/v1/models", tags=["models"], summary="Served models", response_model=ModelList)
async def models(request: Request) -> Response:
    """Every served model, with its gate and the defaults a request may override."""
    return _json(ModelList(models=[served.info for served in service_of(request).models.all()]))


@router.get("/livez", tags=["health"], summary="Is the process alive?", response_model=Health)
async def livez() -> Response:
    """200 as long as the event loop turns."""
    return _json(Health(status="ok"))


@router.get(
    "/readyz",
    tags=["health"],
    summary="Should it get traffic?",
    response_model=Health,
    responses={503: {"model": Health, "description": "Not loaded and warmed up yet, or draining."}},
)
async def readyz(request: Request) -> Response:
    """200 once a model is loaded and warmed up, until shutdown begins."""
    service = service_of(request)
    if service.draining:
        return _json(Health(status="draining"), 503)
    if not service.models:
        return _json(Health(status="starting"), 503)
    return _json(Health(status="ok"))


@router.get(
    "/metrics",
    tags=["health"],
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """The exposition format."""
    return Response(await service_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _read(request: Request) -> bytes:
    """The body, read no further than the limit.

    Raises:
        BodyTooLargeError: it is longer.
    """
    limit = service_of(request).settings.max_body_bytes
    declared = next((value for name, value in request.scope["headers"] if name == b"content-length"), b"0")
    size, body, more = (int(declared) if declared.isdigit() else 0), b"", True
    while more and size <= limit:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        size, more = len(body), message.get("more_body", False)
    if size > limit:
        raise BodyTooLargeError(f"the body is longer than {limit} bytes")
    return body


def _request_id(request: Request, given: str | None) -> str:
    """The request's id; one in the body takes precedence over the header's, in errors and headers too."""
    state = request.scope["state"]
    if given is not None:
        state["request_id"] = given
    request_id: str = state["request_id"]
    return request_id


def _interaction(event: Event, now: float | None) -> Interaction:
    return Interaction(event.item_id, event.type, now if event.timestamp is None else event.timestamp)


def _json(answer: BaseModel, status: int = 200) -> Response:
    return Response(answer.model_dump_json(exclude_unset=True), status, media_type="application/json")
