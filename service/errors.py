"""Every error a caller may see: the hierarchy, ONE table of statuses, and the shape of the answer.

    {"error": text, "error_type": type, "request_id": id, "fields": [{"field", "message"}]}   # fields: 422

Knows nothing of what goes wrong where.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.context.store import StoreUnavailableError, UnknownRecommendationError
from service.schemas import ErrorResponse, ErrorType, FieldError

Stage = Literal["parse", "context", "features", "queue", "infer", "post"]


class ServiceError(Exception):
    """Root of all errors the service answers with. The message is for the caller."""


class InvalidRequestError(ServiceError):
    """The request cannot be understood.

    Attributes:
        fields: what is wrong, each under its path in the body, such as `items.3.id`.
    """

    def __init__(self, fields: Sequence[FieldError]) -> None:
        super().__init__(
            "the request is not valid: " + "; ".join(f"{f.field}: {f.message}" for f in fields[:3])
        )
        self.fields = list(fields)

    @classmethod
    def of(cls, field: str, message: str) -> "InvalidRequestError":
        return cls([FieldError(field=field, message=message)])


class BodyTooLargeError(ServiceError):
    """The body is longer than `max_body_bytes`."""


class NotFoundError(ServiceError):
    """The model or user is unknown."""


class UnavailableError(ServiceError):
    """No model is ready yet."""


class GenerationError(ServiceError):
    """No slate was generated. Answered with the caller's order unless the request is strict."""


class OverloadedError(GenerationError):
    """More requests than `max_concurrency` are queued or in inference."""


class DeadlineExceededError(GenerationError):
    """The request's deadline passed, in `stage`."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(f"the deadline passed in stage {stage}")
        self.stage: Stage = stage


class ModelError(GenerationError):
    """The model, or our own code around it, failed on this request."""


class Answer(NamedTuple):
    status: int
    error_type: ErrorType


STATUS: Mapping[type[Exception], Answer] = {
    InvalidRequestError: Answer(422, "validation"),
    BodyTooLargeError: Answer(413, "validation"),
    NotFoundError: Answer(404, "not_found"),
    OverloadedError: Answer(429, "overloaded"),
    ModelError: Answer(503, "unavailable"),
    UnavailableError: Answer(503, "unavailable"),
    DeadlineExceededError: Answer(504, "deadline"),
    UnknownRecommendationError: Answer(404, "not_found"),
    StoreUnavailableError: Answer(503, "unavailable"),
    ClientDisconnect: Answer(400, "validation"),  # while sending its body; nobody reads this
    Exception: Answer(500, "unavailable"),
}
"""The one table. A new error is a new row."""

RETRY_AFTER_S = 1

_FEATURE_FIELDS = ("features", "context", "profile")
FEATURE_MESSAGE = "expected a finite number, a string, or a list of one of them"


def from_validation(error: ValidationError) -> InvalidRequestError:
    """Pydantic's errors with the caller's names; one entry a feature instead of one a possible type."""
    fields: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        path, message = list(detail["loc"]), detail["msg"]
        depth = next((i + 2 for i, part in enumerate(path) if part in _FEATURE_FIELDS), len(path))
        if len(path) > depth:
            path, message = path[:depth], FEATURE_MESSAGE
        fields.setdefault(".".join(map(str, path)) or "body", message)
    return InvalidRequestError(
        [FieldError(field=field, message=message) for field, message in fields.items()]
    )


def install(app: FastAPI) -> None:
    """Answer every error in the one shape."""
    for error_class in (*STATUS, HTTPException):
        app.add_exception_handler(error_class, answer)


async def answer(request: Request, error: Exception) -> Response:
    """The response to an error."""
    request_id = request.state.request_id
    headers: dict[str, str] = {}
    fields = {}
    if isinstance(error, HTTPException):  # the router's own: no such route, wrong method
        headers.update(error.headers or {})
        status, message = error.status_code, str(error.detail)
        error_type: ErrorType = "not_found" if status == 404 else "validation"
    elif type(error) in STATUS:
        (status, error_type), message = STATUS[type(error)], str(error)
    else:  # the server logs it
        (status, error_type), message = STATUS[Exception], "internal error"
    if isinstance(error, OverloadedError):
        headers["retry-after"] = str(RETRY_AFTER_S)
    if isinstance(error, InvalidRequestError):
        fields = {"fields": error.fields}
    body = ErrorResponse(error=message, error_type=error_type, request_id=request_id, **fields)
    return Response(body.model_dump_json(exclude_unset=True), status, headers, "application/json")
