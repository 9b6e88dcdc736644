"""How every error is answered: ONE table of statuses, and the shape of the answer.

{"error": text, "error_type": type, "request_id": id, "fields": [{"field", "message"}]}   # fields: 422
"""

from collections.abc import Callable, Coroutine, Mapping
from math import ceil
from typing import Any, NamedTuple

from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from bundle.manifest import BundleError
from service.api.request import service_of
from service.bodies.errors import ErrorResponse, ErrorType, FieldError
from service.errors import (
    BodyTooLargeError,
    BusyError,
    ChangeTimeoutError,
    ConflictError,
    DeadlineExceededError,
    DecisionLogError,
    ForbiddenError,
    HeadersTooLargeError,
    InvalidRequestError,
    MalformedRequestError,
    ModelError,
    NotFoundError,
    OverloadedError,
    RateLimitedError,
    RequestTimeoutError,
    ServiceError,
    StoreNotAskedError,
    StoreUnavailableError,
    UnauthenticatedError,
    UnavailableError,
    UnknownRecommendationError,
    UnsupportedMediaError,
)
from service.observe.tracing import current


class Answer(NamedTuple):
    """How an error is answered, and what the OpenAPI document says about it."""

    status: int
    error_type: ErrorType
    meaning: str


ANSWERS: Mapping[type[Exception], Answer] = {
    ClientDisconnect: Answer(400, "validation", "The caller disconnected while sending the body."),
    MalformedRequestError: Answer(400, "validation", "The request is no HTTP/1.1 that names one host."),
    UnauthenticatedError: Answer(401, "unauthenticated", "An API key is needed."),
    ForbiddenError: Answer(403, "forbidden", "The API key lacks the scope."),
    NotFoundError: Answer(404, "not_found", "No such model or user."),
    ConflictError: Answer(409, "conflict", "The models are in a state that this does not suit."),
    UnknownRecommendationError: Answer(404, "not_found", "No such recommendation."),
    RequestTimeoutError: Answer(408, "validation", "The request took too long to arrive."),
    BodyTooLargeError: Answer(413, "validation", "The body is too large."),
    UnsupportedMediaError: Answer(415, "validation", "The body is no JSON, or encoded by other than gzip."),
    InvalidRequestError: Answer(422, "validation", "The body is not valid; `fields` says why."),
    RateLimitedError: Answer(429, "overloaded", "The API key's limit is reached."),
    BundleError: Answer(422, "validation", "The bundle cannot be served."),
    OverloadedError: Answer(429, "overloaded", "Overloaded (strict, or rules hard to judge)."),
    HeadersTooLargeError: Answer(431, "validation", "The headers are too many or too large."),
    Exception: Answer(500, "unavailable", "An internal error."),
    ModelError: Answer(503, "unavailable", "The model failed (strict requests only)."),
    UnavailableError: Answer(503, "unavailable", "No model is ready yet, or the service is shutting down."),
    BusyError: Answer(503, "overloaded", "Too many connections, or bodies being sent."),
    StoreUnavailableError: Answer(503, "unavailable", "The context store does not answer."),
    StoreNotAskedError: Answer(503, "unavailable", "The context store could not be asked in time."),
    DecisionLogError: Answer(503, "unavailable", "The decision log cannot be written."),
    DeadlineExceededError: Answer(504, "deadline", "The deadline passed (strict, or rules hard to judge)."),
    ChangeTimeoutError: Answer(504, "deadline", "The change took too long, and was undone."),
}
"""The one table, read by the handlers, the OpenAPI document and the tests. A new error is a new row."""

BODY_ERRORS = (
    *(BodyTooLargeError, UnsupportedMediaError, InvalidRequestError, RequestTimeoutError),
    BusyError,
)
"""What reading and checking a body may end in."""


def declared(
    *errors: type[Exception], shape: type[ErrorResponse] = ErrorResponse
) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that may end in these errors."""
    meanings: dict[int, list[str]] = {}
    for error in errors:
        meanings.setdefault(ANSWERS[error].status, []).append(ANSWERS[error].meaning)
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": shape, "description": " ".join(texts)} for status, texts in meanings.items()
    }
    for error in {OverloadedError, RateLimitedError, BusyError}.intersection(errors):
        schema = {"type": "integer", "minimum": 1, "example": 1}
        headers = {"Retry-After": {"description": "The wait predicted, in seconds.", "schema": schema}}
        responses[ANSWERS[error].status]["headers"] = headers
    return responses


async def answer(request: Request, error: Exception) -> Response:
    """The response to an error."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        error.headers = {**(error.headers or {}), **_allowed(request)}
    record = current()
    if record is not None and record.reason is None:
        record.reason = str(error) if isinstance(error, ServiceError) else type(error).__name__
    return error_response(error, request.state.request_id, service_of(request).settings.max_faults)


def _allowed(request: Request) -> dict[str, str]:
    """Every method of a path; the router's own answer names those of its first route."""
    path = getattr(request.scope.get("route"), "path", None)
    listed = (
        getattr(route, "original_router", None) for route in request.app.routes
    )  # each as it was included
    every = [*request.app.routes, *(route for router in listed if router for route in router.routes)]
    routes = [route for route in every if path and getattr(route, "path", None) == path]
    methods = {method for route in routes for method in route.methods or ()}
    methods |= {"HEAD"} if "GET" in methods else set()  # see `Observed`
    return {"Allow": ", ".join(sorted(methods))} if methods else {}


def error_response(error: Exception, request_id: str, max_faults: int = 0) -> Response:
    """The response to an error, whether or not there is a request to speak of."""
    headers: dict[str, str] = {}
    fields = {}
    if isinstance(error, HTTPException):  # the router's own: no such route, wrong method
        headers.update(error.headers or {})
        status, message = error.status_code, str(error.detail)
        error_type: ErrorType = "not_found" if status == 404 else "validation"
    else:
        status, error_type, _ = ANSWERS[_row_of(error)]
        message = str(error) if is_foreseen(error) else "internal error"
    if isinstance(error, OverloadedError):
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, BusyError):
        headers["retry-after"] = "1"
    if isinstance(error, RateLimitedError):
        headers["retry-after"] = str(ceil(error.retry_after_s))
    if isinstance(error, UnauthenticatedError):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, InvalidRequestError):
        fields = {
            "fields": [FieldError(field=field, message=text) for field, text in error.faults[:max_faults]]
        }
    body = ErrorResponse(error=message, error_type=error_type, request_id=request_id, **fields)
    return Response(body.model_dump_json(exclude_unset=True), status, headers, "application/json")


def is_foreseen(error: Exception) -> bool:
    """Whether the table has a row for an error, or the router raised it. The server logs all others."""
    return isinstance(error, HTTPException) or _row_of(error) is not Exception


def _row_of(error: Exception) -> type[Exception]:
    """The kind of error, itself or the closest parent, whose row in the table answers it."""
    return next(kind for kind in type(error).__mro__ if kind in ANSWERS)


Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]

HANDLERS: dict[int | type[Exception], Handler] = dict.fromkeys((*ANSWERS, HTTPException), answer)
"""`exception_handlers` of an application whose every error is to be answered in the one shape."""
