"""What a handler asks of its request: the service behind it, its body and its id."""

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.bodies.common import IdentifiedBody
from service.context.store import ContextStore
from service.errors import (
    BodyTooLargeError,
    BusyError,
    Fault,
    InvalidRequestError,
    ServiceError,
    UnsupportedMediaError,
)
from service.observe.answer_log import AnswerLog
from service.observe.decision_log import DecisionLog
from service.observe.metrics import Metrics
from service.serving.changes import Changes
from service.serving.registry import Models
from service.serving.reranking import Reranker
from service.settings import Settings

if TYPE_CHECKING:  # it asks for the service itself
    from service.api.access import Access


@dataclass
class Service:
    """What the handlers work with: `app.state.service`. Wired in `service.app`."""

    settings: Settings
    metrics: Metrics
    contexts: ContextStore
    models: Models
    changes: Changes
    reranker: Reranker
    access: "Access"
    answer_log: AnswerLog
    decision_log: DecisionLog | None = None
    draining: bool = False
    held_bytes: int = 0
    """Of bodies that are still being sent."""

    def is_stuck(self) -> bool:
        """Whether a batch has been in the default model for so long that only another process will help."""
        return bool(self.models) and self.models.get().watched.busy_s > 2 * self.settings.stuck_after_s


def service_of(request: Request) -> Service:
    """The service that a request was sent to."""
    service: Service = request.app.state.service
    return service


_JSON = re.compile(r"application/(json|[\w.+-]+\+json)")

ARRIVED = "arrived"
"""Where in a request's state the server leaves `Reranker.arrival` of it."""

FAULT = "fault"
"""Where in a request's state the server leaves the `ServiceError` that ends its body before its time."""


async def read_body(request: Request) -> bytes | bytearray:
    """The JSON of the body, unpacked; read, and unpacked, no further than `max_body_bytes`.

    Raises:
        BodyTooLargeError: it is longer.
        UnsupportedMediaError: by its headers it is no JSON, or packed by other than gzip.
        InvalidRequestError: it is no gzip.
        BusyError: too many bytes of bodies are held already.
        ServiceError: what the server gave its rest up for.
        ClientDisconnect: the caller left before its end.
    """
    service = service_of(request)
    limit = service.settings.max_body_bytes
    packed = False
    for name, value in request.scope["headers"]:
        if name == b"content-length":
            if value.isdigit() and int(value) > limit:
                raise _too_large(limit)
        elif name == b"content-type":
            if value != b"application/json":
                _check_media_type(value)
        elif name == b"content-encoding":
            packed = _is_packed(value)
    part, more = await _next_part(request)
    body = await _read_rest(request, service, part) if more else part
    if packed:
        body = _unpacked(body, limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is longer than {limit} bytes")


def _check_media_type(given: bytes) -> None:
    """Raises: UnsupportedMediaError: it is no JSON in UTF-8."""
    media_type, _, parameters = given.decode("latin-1").lower().partition(";")
    if _JSON.fullmatch(media_type.strip()) is None:
        raise UnsupportedMediaError("expected Content-Type: application/json")
    if "charset" in parameters and "utf-8" not in parameters and "utf8" not in parameters:
        raise UnsupportedMediaError("expected a body in UTF-8")


def _is_packed(encoding: bytes) -> bool:
    """Whether the body is gzip. Raises: UnsupportedMediaError: it is anything else."""
    named = encoding.strip().lower()
    if named not in (b"gzip", b"x-gzip", b"identity", b""):
        raise UnsupportedMediaError("expected Content-Encoding: gzip, or none")
    return named.endswith(b"gzip")


def _unpacked(body: bytes | bytearray, limit: int) -> bytes:
    """What was packed, at most a byte beyond the limit. Raises: InvalidRequestError."""
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequestError([Fault("body", f"no gzip: {error}")]) from None
    if len(unpacked) <= limit and (not unpacking.eof or unpacking.unused_data):
        raise InvalidRequestError([Fault("body", "expected one whole gzip member, and nothing after it")])
    return unpacked


async def _read_rest(request: Request, service: Service, first: bytes) -> bytearray:
    """A body that comes in parts, at most one part beyond `max_body_bytes`. Meanwhile it counts as held."""
    settings, body, more = service.settings, bytearray(), True
    part = first
    try:
        while True:
            body += part
            service.held_bytes += len(part)
            if not more or len(body) > settings.max_body_bytes:
                return body
            if service.held_bytes > settings.max_held_bytes:
                service.metrics.refused.labels("held_bytes").inc()
                raise BusyError("too many bodies are being sent")
            part, more = await _next_part(request)
    finally:
        service.held_bytes -= len(body)


async def _next_part(request: Request) -> tuple[bytes, bool]:
    """The next part of the body, and whether there are more."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    more = message.get("more_body", False)
    if more and (fault := request.scope["state"].get(FAULT)) is not None:
        assert isinstance(fault, ServiceError)
        raise fault
    return message.get("body", b""), more


def identify(request: Request, body: IdentifiedBody) -> str:
    """The request's id. One in the body takes precedence over the header's, in headers and errors too."""
    state = request.scope["state"]  # `request.state` takes microseconds
    if body.request_id is not None:
        state["request_id"] = body.request_id
    request_id: str = state["request_id"]
    return request_id
