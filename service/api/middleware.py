"""What happens to every request, whatever its route: it gets an id, is counted, timed, traced and, if it
comes to nothing, logged.

Plain ASGI around the whole application, because it is on the hot path. Knows nothing of routes.
"""

import asyncio
import os
import re
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.answers import error_response
from service.bodies.common import REQUEST_ID_PATTERN
from service.errors import UnavailableError
from service.observe.answer_log import AnswerLog
from service.observe.metrics import Metrics, outcome_of
from service.observe.tracing import CURRENT, RequestRecord, Tracer

REQUEST_ID_HEADER = b"x-request-id"
_REQUEST_ID = re.compile(REQUEST_ID_PATTERN.encode())


class Observed:
    """Wraps the application. A handler may replace `request.state.request_id` by the id in a body."""

    def __init__(self, app: ASGIApp, metrics: Metrics, answer_log: AnswerLog, tracer: Tracer | None) -> None:
        self._app, self._metrics, self._answer_log, self._tracer = app, metrics, answer_log, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        given = next((value for name, value in scope["headers"] if name == REQUEST_ID_HEADER), b"")
        state["request_id"] = given.decode() if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
        code, answered = 500, False
        record = RequestRecord(scope)
        token = CURRENT.set(record)
        if self._tracer is not None:
            self._tracer.begin(record)
        if scope["method"] == "HEAD":  # as GET; the server knows better, and leaves the body out
            scope = {**scope, "method": "GET"}

        async def send_observed(message: Message) -> None:
            nonlocal code, answered
            if message["type"] == "http.response.start":
                code, answered = message["status"], True
                own = (REQUEST_ID_HEADER, state["request_id"].encode())
                message["headers"] = [*message.get("headers", ()), own]
            await send(message)

        started = perf_counter()
        self._metrics.inflight.inc()
        try:
            await self._app(scope, receive, send_observed)
        except asyncio.CancelledError:  # by the server, whose patience with open requests is over
            if answered:
                raise
            response = error_response(UnavailableError("the service is shutting down"), state["request_id"])
            await response(scope, receive, send_observed)
        finally:
            self._metrics.inflight.dec()
            endpoint = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(endpoint, str(code)).inc()
            outcome = outcome_of(code, record.fallback)
            took_s = perf_counter() - started
            self._metrics.request_duration.labels(endpoint, outcome).observe(took_s)
            self._answer_log.answered(record, endpoint, code, took_s)
            if self._tracer is not None:
                self._tracer.end(record, endpoint, code)
            CURRENT.reset(token)
