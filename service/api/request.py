"""What a handler asks of its request: the service behind it, its body and its id."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.bodies.common import IdentifiedBody
from service.context.store import ContextStore
from service.errors import BodyTooLargeError
from service.observe.metrics import Metrics
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
    reranker: Reranker
    access: "Access"
    draining: bool = False


def service_of(request: Request) -> Service:
    """The service that a request was sent to."""
    service: Service = request.app.state.service
    return service


async def read_body(request: Request) -> bytearray:
    """The body, read no further than `max_body_bytes`.

    Raises:
        BodyTooLargeError: it is longer.
        ClientDisconnect: the caller left before its end.
    """
    limit = service_of(request).settings.max_body_bytes
    length = request.headers.get("content-length", "")
    size, body, more = (int(length) if length.isdecimal() else 0), bytearray(), True
    while more and size <= limit:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        size, more = len(body), message.get("more_body", False)
    if size > limit:
        raise BodyTooLargeError(f"the body is longer than {limit} bytes")
    return body


def identify(request: Request, body: IdentifiedBody) -> str:
    """The request's id. One in the body takes precedence over the header's, in headers and errors too."""
    state = request.scope["state"]  # `request.state` takes microseconds
    if body.request_id is not None:
        state["request_id"] = body.request_id
    request_id: str = state["request_id"]
    return request_id
