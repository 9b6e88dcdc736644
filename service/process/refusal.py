"""Answers that a connection gives by itself."""

import os

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.api.answers import error_response
from service.errors import ServiceError


def response_to(error: ServiceError) -> Response:
    """An answer of which the application knows nothing."""
    request_id = os.urandom(16).hex()
    response = error_response(error, request_id)
    response.headers["x-request-id"] = request_id
    response.headers["connection"] = "close"
    return response


def written(response: Response) -> bytes:
    """As bytes of HTTP/1.1."""
    lines = [b"%s: %s\r\n" % header for header in response.raw_headers]
    return b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", bytes(response.body)])
