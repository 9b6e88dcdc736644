"""One connection: uvicorn's, within limits of number, size and time, and asked to leave while draining.

A request beyond a limit is answered in the one shape of errors, or, where nothing can be answered any more,
its connection is closed. Knows nothing of routes, but for those of health, which are always answered.
"""

from asyncio import AbstractEventLoop, TimerHandle, Transport
from functools import partial
from typing import TYPE_CHECKING, Any

import httptools
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.hosts import is_health
from service.api.request import ARRIVED, FAULT
from service.errors import (
    BusyError,
    HeadersTooLargeError,
    MalformedRequestError,
    RequestTimeoutError,
    ServiceError,
    UnavailableError,
)
from service.observe.metrics import Refused
from service.process.refusal import response_to, written
from service.process.sockets import age_s, has_unread

if TYPE_CHECKING:  # they make it
    from service.process.connections import Connections

LINGER_S, LINGER_BYTES = 1.0, 1_048_576
"""How long, and how much, of what a refused caller still sends is read and thrown away: a connection that is
closed with anything unread takes the answer with it."""

IDLE_WHILE_DRAINING_S = 1.0
"""Whoever uses a connection more often gets an answer that says it closes, instead of finding it closed."""

RECHECK_S = 0.02
"""When a time is up, but bytes have arrived that a stalled event loop has not read."""

IDLE, HEADERS, BODY = range(3)


class Connection(HttpToolsProtocol):
    """Counts what arrives, and how long it takes."""

    transport: Transport
    loop: AbstractEventLoop

    def __init__(self, connections: "Connections", **given: Any) -> None:
        super().__init__(**given)
        self._connections, self._limits = connections, connections.settings
        self._spare = self._refused = False
        self._fault: ServiceError | None = None  # of the request being read, found by a callback
        self._unparsed = 0  # bytes since the parser last told of headers or a part of a body
        # Counts starts of messages, ends of headers and ends of messages, hence tells the phase, modulo 3.
        self._step = self._timed_step = 0
        self._timer: TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None  # the first of those that `cycle` is the last of
        self._unread_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.client is None:  # of a unix socket, whose callers have no addresses
            self.client = ("", id(self))
        self._spare = self._connections.opened(self)
        if self._spare:
            self._idle_at_most(self._limits.header_timeout_s)
            self._whole_app, self.app = self.app, self._only_health
        elif self._connections.service.draining:
            self._idle_at_most(IDLE_WHILE_DRAINING_S)
        self._keep_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        self._stop_timer()
        self._unset_keepalive_if_required()
        if self._answering is not None:
            self._answering.disconnected = True
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The caller sends no more. Returns whether the connection stays open, for answers that are due."""
        if self._step % 3 != IDLE or self._answered() or self.scheme == "https":  # TLS ends both ways
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        self._unparsed += len(data)
        if self._refused:
            if self._unparsed > LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(self._fault or MalformedRequestError("invalid HTTP request"))
        else:
            if self._unparsed > self._limits.max_header_bytes:
                self._refuse(self._too_large())
        if self._step % 3 != IDLE:
            if self._timed_step != self._step and not self._refused:
                self._start_timer()
        else:
            if self._timer is not None:
                self._stop_timer()
            if self.timeout_keep_alive_task is None and self._answered():
                self._keep_idle()

    def _parse(self, data: bytes) -> None:
        """The parser leaves the body of a request alone that asks for an upgrade, as Java's client does with
        each. So it is read again, as one that asks for none."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
                self._step -= 1
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def _without_upgrade(self) -> bytes:
        """Request line and headers that have just been read."""
        first = self.parser.get_method(), self.url, self.parser.get_http_version().encode()
        headers = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"".join([b"%s %s HTTP/%s\r\n" % first, *headers, b"\r\n"])

    # What the parser tells

    def on_message_begin(self) -> None:
        self._step += 1
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._step % 3 == HEADERS:  # nobody asked for trailers
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._fault = self._fault_of_headers()
        if self._fault is not None:
            raise self._fault  # which ends the parsing
        if self.parser.should_upgrade():
            return
        self._step += 1
        self._unparsed = 0
        reranker = self._connections.service.reranker
        self.scope["state"][ARRIVED] = reranker.arrival(partial(age_s, self.transport))
        super().on_headers_complete()
        if self._spare or self._connections.service.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._step += 1
        self._unparsed = 0
        super().on_message_complete()

    def _fault_of_headers(self) -> ServiceError | None:
        headers = self.headers
        if len(headers) > self._limits.max_headers:
            return self._too_large()
        if self._unparsed > self._limits.max_header_bytes:  # perhaps by what follows them
            size = len(self.url) + sum(len(name) + len(value) for name, value in headers)
            if size > self._limits.max_header_bytes:
                return self._too_large()
        if self.parser.get_method() == b"CONNECT":
            return MalformedRequestError("CONNECT is for proxies")
        hosts = [name for name, _ in headers].count(b"host")
        if hosts > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            return MalformedRequestError(f"expected one Host header, found {hosts}")
        if len(self.pipeline) >= self._limits.max_pipelined:
            return MalformedRequestError("too many requests were sent ahead")
        return None

    def _too_large(self) -> HeadersTooLargeError:
        limits = self._limits
        return HeadersTooLargeError(
            f"at most {limits.max_headers} headers and {limits.max_header_bytes} bytes of them"
        )

    # Time

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timed_step = self._step
        limits = self._limits
        seconds = limits.header_timeout_s if self._step % 3 == HEADERS else limits.body_timeout_s
        self._timer = self.loop.call_later(seconds, self._overdue)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _overdue(self, rechecked: bool = False) -> None:
        if not rechecked and has_unread(self.transport):
            self._timer = self.loop.call_later(RECHECK_S, self._overdue, True)
            return
        self._timer = None
        part = "headers" if self._step % 3 == HEADERS else "body"
        self._refuse(RequestTimeoutError(f"the {part} took too long to arrive"))

    def _idle_at_most(self, seconds: float) -> None:
        # uvicorn calls it an int, and only hands it to the event loop.
        self.timeout_keep_alive = min(self.timeout_keep_alive, seconds)  # type: ignore[assignment]

    def _keep_idle(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        """The connection was idle for long. Close it, unless a request is arriving."""
        if self._step % 3 != IDLE:
            return
        if has_unread(self.transport):
            self.timeout_keep_alive_task = self.loop.call_later(RECHECK_S, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def end_unread(self) -> None:
        """End the connection, if there was something unread of what it got at every look for too long."""
        now = self.loop.time()
        if not self.transport.get_write_buffer_size():
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > self._limits.answer_timeout_s:
            self._connections.metrics.refused.labels("unread").inc()
            self.transport.abort()

    # Draining

    def drain(self) -> None:
        """Leave with the next answer, or when idle for a while."""
        self._idle_at_most(IDLE_WHILE_DRAINING_S)
        if not self._answered():
            self.cycle.keep_alive = False
        elif self._step % 3 == IDLE:
            self._keep_idle()

    def shutdown(self) -> None:
        """The port is closed. A request that is being sent, or has just arrived, is still answered."""
        if not self._answered():
            self.cycle.keep_alive = False
        elif self._step % 3 == IDLE and not has_unread(self.transport):
            self.transport.close()

    def give_up(self) -> None:
        if self._step % 3 != IDLE:
            self._refuse(UnavailableError("the service is shutting down"))

    # Refusals

    def _answered(self) -> bool:
        """Whether no request waits for its answer."""
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, error: ServiceError) -> None:
        """Answer the request that is being read with an error, and read no more."""
        if self._refused:
            return
        self._refused = True
        self._stop_timer()
        self._connections.metrics.refused.labels(_REASONS[type(error)]).inc()
        cycle = self.cycle
        if cycle is not None and cycle.more_body:  # the fault is in its body
            if cycle.response_complete:
                self.transport.close()
            else:
                cycle.scope["state"][FAULT] = error
                cycle.keep_alive = False
                cycle.message_event.set()
        elif self._answered():
            self.transport.write(written(self._response_to(error)))
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self._timer = self.loop.call_later(LINGER_S, self.transport.close)
        else:  # an answer to an earlier request is due, and is the last one
            cycle.keep_alive = False

    def _response_to(self, error: ServiceError) -> Response:
        response = response_to(error)
        self._connections.service.answer_log.refused(response.status_code, str(error))
        return response

    async def _only_health(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application of a connection too many."""
        if is_health({**scope, "root_path": self._limits.root_path}):
            await self._whole_app(scope, receive, send)
        else:
            error = BusyError(f"{self._limits.max_connections} connections are open already")
            await self._response_to(error)(scope, receive, send)


_REASONS: dict[type[ServiceError], Refused] = {
    HeadersTooLargeError: "headers",
    MalformedRequestError: "malformed",
    RequestTimeoutError: "timeout",
    UnavailableError: "shutdown",
}
