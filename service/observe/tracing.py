"""Requests as traces: what is known of one while it is answered, and its spans for OpenTelemetry.

Any code below a request finds its record with `current()`: logs take its ids, and what feeds the metrics of
a stage tells the record too. Only with `otel_endpoint` set is OpenTelemetry's SDK imported and anything
kept; a request's spans are made after it was answered, so that no caller waits for them.

No span holds an id of a user or an item, hence no path: `/v1/users/{user_id}/context` is told by its route.
"""

import re
from contextvars import ContextVar
from statistics import fmean
from time import monotonic, time
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.datastructures import Headers
from starlette.types import Scope

from engine.generation import Slate
from service.bodies.rerank import Fallback
from service.errors import Stage
from service.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

TRACEPARENT = "traceparent"
EXPORT_TIMEOUT_S = 2.0
"""For a batch of spans, retries included: what a dead collector may add to the service's own end."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
HEALTH_PATHS = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})
_UNTRACED_PATHS = HEALTH_PATHS | {"/metrics"}  # asked every few seconds by machines


class StageSpan(NamedTuple):
    """A stage as it was, in `time.monotonic()` seconds."""

    stage: Stage
    started: float
    ended: float
    failed: bool


class RequestRecord:
    """One request. What tracing needs is kept only where `recording`.

    Attributes:
        recording: the request is sampled.
        slate, attributes: what is to be told of it: its slate, and attributes of its span.
        model: name and version of the model it was for.
        fallback: why it got its caller's order.
        reason: what it came to instead; of a 4xx it may quote the request.
    """

    __slots__ = (
        *("attributes", "fallback", "model", "reason", "recording", "scope", "slate", "span"),
        "stages",
    )

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.recording = False
        self.span: Span | None = None
        self.slate: Slate | None = None
        self.model: tuple[str, str] | None = None
        self.fallback: Fallback | None = None
        self.reason: str | None = None
        self.stages: list[StageSpan]
        self.attributes: dict[str, Any]

    @property
    def request_id(self) -> str:
        request_id: str = self.scope["state"]["request_id"]
        return request_id

    @property
    def trace_ids(self) -> tuple[str, str] | None:
        """Ids of trace and span in hexadecimal: the request's own, or, untraced, its caller's."""
        if self.span is not None:
            context = self.span.get_span_context()
            return f"{context.trace_id:032x}", f"{context.span_id:016x}"
        given = _TRACEPARENT.fullmatch(Headers(scope=self.scope).get(TRACEPARENT, ""))
        return (given[1], given[2]) if given else None

    def stage(self, stage: Stage, started: float, ended: float, failed: bool = False) -> None:
        if self.recording:
            self.stages.append(StageSpan(stage, started, ended, failed))

    def note(self, **attributes: str | int | float | None) -> None:
        """Attributes of the request's span, below `rerank.`; those that are None are left out."""
        if self.recording:
            self.attributes |= {f"rerank.{k}": value for k, value in attributes.items() if value is not None}


CURRENT: ContextVar[RequestRecord | None] = ContextVar("request", default=None)
current = CURRENT.get


class Tracer:
    """Makes spans of records and sends them, in a thread of its own, to a collector."""

    def __init__(self, settings: Settings, exporter: "SpanExporter") -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(settings.otel_sample_ratio),
            resource=Resource.create({SERVICE_NAME: settings.otel_service_name}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("service")
        self._extract = TraceContextTextMapPropagator().extract
        self._within, self._server, self._error = set_span_in_context, SpanKind.SERVER, StatusCode.ERROR

    @classmethod
    def from_settings(cls, settings: Settings) -> "Tracer | None":
        """None without an `otel_endpoint`."""
        if settings.otel_endpoint is None:
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        address = f"{settings.otel_endpoint.rstrip('/')}/v1/traces"
        return cls(settings, OTLPSpanExporter(address, timeout=EXPORT_TIMEOUT_S))

    def begin(self, record: RequestRecord) -> None:
        """Give a request its span, below the caller's if there is one."""
        if record.scope["path"].removeprefix(record.scope.get("root_path", "")) in _UNTRACED_PATHS:
            return
        method = record.scope["method"]
        record.span = self._tracer.start_span(
            method, self._extract(Headers(scope=record.scope)), kind=self._server
        )
        record.recording = record.span.is_recording()
        record.stages, record.attributes = [], {"http.request.method": method}

    def end(self, record: RequestRecord, endpoint: str, code: int) -> None:
        """Make the spans of a request that was answered with `code`."""
        span = record.span
        if span is None or not record.recording:
            return
        record.recording = False  # whatever still runs for it comes too late
        span.update_name(f"{record.attributes['http.request.method']} {endpoint}")
        known = {"http.route": endpoint, "http.response.status_code": code}
        span.set_attributes(record.attributes | known | {"rerank.request_id": record.request_id})
        error = str(code) if code >= 500 else record.attributes.get("rerank.fallback")
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(self._error)
        within, epoch = self._within(span), time() - monotonic()
        for name, started, ended, failed in record.stages:
            child = self._tracer.start_span(name, within, start_time=int((epoch + started) * 1e9))
            if failed:
                child.set_status(self._error)
            elif name == "infer" and record.slate is not None:
                child.set_attributes(_entropy(record.slate))
            child.end(int((epoch + ended) * 1e9))
        span.end()

    def close(self) -> None:
        """Send what is left; waits for the collector."""
        self._provider.shutdown()


def _entropy(slate: Slate) -> dict[str, str | int | float]:
    return {
        "rerank.entropy_before": fmean(position.entropy_before for position in slate.positions),
        "rerank.entropy_after": fmean(position.entropy_after for position in slate.positions),
        "rerank.reasoning_tokens": slate.reasoning_tokens,
        "rerank.reasoning_stop": slate.stop,
    }
