"""The body of every error, whatever its status."""

from typing import Literal

from pydantic import Field

from service.bodies.common import Body, example

ErrorType = Literal[
    "validation",
    "unauthenticated",
    "forbidden",
    "not_found",
    "conflict",
    "overloaded",
    "deadline",
    "unavailable",
]


class FieldError(Body):
    """What is wrong with one field."""

    field: str = Field(description="Path in the body, such as `items.3.id`.")
    message: str


class ErrorResponse(Body):
    """The one shape of every error."""

    error: str
    error_type: ErrorType
    request_id: str
    fields: list[FieldError] | None = Field(None, description="Only with status 422.")

    model_config = example(
        {
            "error": "the request is not valid: items.1.id: 'i1' occurs twice",
            "error_type": "validation",
            "request_id": "r-17",
            "fields": [{"field": "items.1.id", "message": "'i1' occurs twice"}],
        }
    )


class DocumentsErrorResponse(ErrorResponse):
    """The same, with the text of `error` where clients of Cohere's and of Jina's API look for it, too."""

    message: str
    detail: str

    model_config = example(
        {
            "error": "no model 'rerank-v3.5'; served: eglr 3",
            "error_type": "not_found",
            "request_id": "r-17",
            "message": "no model 'rerank-v3.5'; served: eglr 3",
            "detail": "no model 'rerank-v3.5'; served: eglr 3",
        }
    )
