"""What the answer to an error has to be, as the one table says."""

from typing import Any

import httpx

from service.api.answers import ANSWERS
from service.errors import InvalidRequestError


def refused(response: httpx.Response, error: type[Exception]) -> dict[str, Any]:
    """The body of the answer to an error, after checking everything that is the same for all of its kind."""
    row, body = ANSWERS[error], dict(response.json())
    assert (response.status_code, body["error_type"]) == (row.status, row.error_type), body
    again = {"message", "detail"} if response.url.path == "/v2/rerank" else set()
    assert set(body) - {"fields"} == {"error", "error_type", "request_id"} | again
    assert all(body[name] == body["error"] for name in again)
    assert body["request_id"] == response.headers["x-request-id"]
    assert ("fields" in body) == issubclass(error, InvalidRequestError)
    return body


def faulty_fields(response: httpx.Response) -> dict[str, str]:
    """The fields that a refused body is said to be wrong in, and why."""
    fields = refused(response, InvalidRequestError)["fields"]
    assert all(set(field) == {"field", "message"} for field in fields)
    return {field["field"]: field["message"] for field in fields}
