"""What every request gets, whatever its route: an id, its count and duration in the metrics, its spans.

Plain ASGI, for it is on the hot path. Knows nothing of bodies.
"""

import re
from time import perf_counter
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.tracing import CURRENT, RequestRecord, Tracer

REQUEST_ID_HEADER = "x-request-id"
_SAFE_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Observed:
    """Wraps the app. `scope["state"]["request_id"]` may be set again by a route that reads one in a body."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: Tracer | None) -> None:
        self._app, self._metrics, self._tracer = app, metrics, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        state["request_id"] = given if _SAFE_ID.fullmatch(given) else uuid4().hex
        code = 500
        record = RequestRecord(scope)
        token = CURRENT.set(record)
        if self._tracer is not None:
            self._tracer.begin(record)

        async def send_observed(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = state["request_id"]
            await send(message)

        started = perf_counter()
        self._metrics.inflight.inc()
        try:
            await self._app(scope, receive, send_observed)
        finally:
            self._metrics.inflight.dec()
            endpoint = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(endpoint, str(code)).inc()
            self._metrics.request_duration.labels(endpoint).observe(perf_counter() - started)
            if self._tracer is not None:
                self._tracer.end(record, endpoint, code)
            CURRENT.reset(token)
