"""How every error is answered: ONE table of statuses, and the shape of the answer.

{"error": text, "error_type": type, "request_id": id, "fields": [{"field", "message"}]}   # fields: 422
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.bodies.errors import ErrorResponse, ErrorType, FieldError
from service.errors import (
    BodyTooLargeError,
    DeadlineExceededError,
    Fault,
    InvalidRequestError,
    ModelError,
    NotFoundError,
    OverloadedError,
    StoreUnavailableError,
    UnavailableError,
    UnknownRecommendationError,
)


class Answer(NamedTuple):
    """What an error is to HTTP, and what the OpenAPI document says of it."""

    status: int
    error_type: ErrorType
    meaning: str


ANSWERS: Mapping[type[Exception], Answer] = {
    ClientDisconnect: Answer(400, "validation", "The caller left while sending the body; nobody reads this."),
    NotFoundError: Answer(404, "not_found", "No such model or user."),
    UnknownRecommendationError: Answer(404, "not_found", "No such recommendation."),
    BodyTooLargeError: Answer(413, "validation", "The body is too large."),
    InvalidRequestError: Answer(422, "validation", "The body is not valid; `fields` lists what is wrong."),
    OverloadedError: Answer(429, "overloaded", "Overloaded (strict requests only)."),
    Exception: Answer(500, "unavailable", "A fault of ours."),
    ModelError: Answer(503, "unavailable", "The model failed (strict requests only)."),
    UnavailableError: Answer(503, "unavailable", "No model is ready."),
    StoreUnavailableError: Answer(503, "unavailable", "The context store does not answer."),
    DeadlineExceededError: Answer(504, "deadline", "The deadline passed (strict requests only)."),
}
"""The one table, which handlers, the OpenAPI document and the tests read. A new error is a new row."""

RETRY_AFTER_S = 1

_FEATURE_FIELDS = ("features", "context", "profile")
FEATURE_MESSAGE = "expected a finite number, a string, or a list of one of them"


def from_validation(error: ValidationError) -> InvalidRequestError:
    """Pydantic's errors with the caller's names; one entry a feature instead of one a possible type."""
    faults: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        path, message = list(detail["loc"]), detail["msg"]
        depth = next((i + 2 for i, part in enumerate(path) if part in _FEATURE_FIELDS), len(path))
        if len(path) > depth:
            path, message = path[:depth], FEATURE_MESSAGE
        faults.setdefault(".".join(map(str, path)) or "body", message)
    return InvalidRequestError([Fault(field, message) for field, message in faults.items()])


def declared(*errors: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that may answer with these errors."""
    meanings: dict[int, list[str]] = {}
    for error in errors:
        meanings.setdefault(ANSWERS[error].status, []).append(ANSWERS[error].meaning)
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorResponse, "description": " ".join(texts)} for status, texts in meanings.items()
    }
    if OverloadedError in errors:
        schema = {"type": "integer", "example": RETRY_AFTER_S}
        headers = {"Retry-After": {"description": "Seconds.", "schema": schema}}
        responses[ANSWERS[OverloadedError].status]["headers"] = headers
    return responses


def install(app: FastAPI) -> None:
    """Answer every error in the one shape."""
    for error_class in (*ANSWERS, HTTPException):
        app.add_exception_handler(error_class, answer)


async def answer(request: Request, error: Exception) -> Response:
    """The response to an error."""
    headers: dict[str, str] = {}
    fields = {}
    if isinstance(error, HTTPException):  # the router's own: no such route, wrong method
        headers.update(error.headers or {})
        status, message = error.status_code, str(error.detail)
        error_type: ErrorType = "not_found" if status == 404 else "validation"
    else:
        status, error_type, _ = ANSWERS.get(type(error), ANSWERS[Exception])
        message = str(error) if type(error) in ANSWERS else "internal error"  # the server logs it
    if isinstance(error, OverloadedError):
        headers["retry-after"] = str(RETRY_AFTER_S)
    if isinstance(error, InvalidRequestError):
        fields = {"fields": [FieldError(field=field, message=text) for field, text in error.faults]}
    body = ErrorResponse(error=message, error_type=error_type, request_id=request.state.request_id, **fields)
    return Response(body.model_dump_json(exclude_unset=True), status, headers, "application/json")
