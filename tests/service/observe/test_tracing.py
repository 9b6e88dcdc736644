"""Spans of real requests, in memory and as a collector receives them; and nothing of it when off."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from eventually import eventually
from faulty_runners import Failing, held, put_runner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from rerank_client import Client

from service.app import create_app
from service.observe.tracing import Tracer
from service.settings import Settings

ROOT = Path(__file__).parents[3]
ITEMS = [f"i{n}" for n in range(12)]
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["parse", "context", "features", "queue", "infer", "post"]


class Traced:
    """A service and the spans it made; they are complete once it has ended."""

    def __init__(self, client: Client, exporter: InMemorySpanExporter) -> None:
        self.client, self._exporter = client, exporter

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def requests(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.kind == SpanKind.SERVER]

    def stages(self, request: ReadableSpan) -> dict[str, ReadableSpan]:
        """The request's stages by name, in the order they began."""
        below = [s for s in self.spans if s.parent and s.parent.span_id == request.context.span_id]
        return {span.name: span for span in sorted(below, key=lambda span: span.start_time)}


Trace = Callable[..., AbstractAsyncContextManager[Traced]]


@pytest.fixture
def trace(bundle: Path) -> Trace:
    """`async with trace(otel_sample_ratio=0.5) as traced`: the service, its spans kept in memory."""

    @asynccontextmanager
    async def tracing(**given: Any) -> AsyncIterator[Traced]:
        settings, exporter = Settings(bundle=bundle, **given), InMemorySpanExporter()
        app = create_app(settings, Tracer(settings, exporter))
        async with app.router.lifespan_context(app), Client(app) as client:
            yield Traced(client, exporter)

    return tracing


async def test_a_rerank_is_a_request_with_its_stages(trace: Trace) -> None:
    async with trace() as traced:
        headers = {"x-request-id": "r-1"}
        body = {"items": [{"id": item} for item in ITEMS], "user_id": "u1", "explain": True}
        answer = (await traced.client.post("/v1/rerank", json=body, headers=headers)).json()
    (request,) = traced.requests
    assert request.name == "POST /v1/rerank"
    assert request.parent is None
    assert request.resource.attributes["service.name"] == "eglr-reranker"
    assert request.status.status_code == StatusCode.UNSET
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/rerank",
        "http.response.status_code": 200,
        "rerank.request_id": "r-1",
        "rerank.model": "eglr",
        "rerank.model_version": "1",
        "rerank.list_size": 12,
        "rerank.context": "miss",
    }
    stages = traced.stages(request)
    assert list(stages) == STAGES
    ends = [request.start_time, *(stage.end_time for stage in stages.values()), request.end_time]
    assert ends == sorted(ends), "one after the other, within the request"
    reasoning = answer["reasoning"]
    entropies = {
        when: sum(position[f"entropy_{when}"] for position in reasoning["trace"]) / len(reasoning["trace"])
        for when in ("before", "after")
    }
    assert dict(stages["infer"].attributes) == {
        "rerank.entropy_before": pytest.approx(entropies["before"]),
        "rerank.entropy_after": pytest.approx(entropies["after"]),
        "rerank.reasoning_tokens": reasoning["tokens"],
        "rerank.reasoning_stop": reasoning["stop"],
    }
    assert not any(stage.attributes for name, stage in stages.items() if name != "infer")


async def test_the_callers_trace_goes_on_and_its_sampling_is_kept(trace: Trace) -> None:
    async with trace(otel_sample_ratio=0.0) as traced:
        for sampled in ("00", "01"):
            headers = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-{sampled}"}
            await traced.client.get("/v1/models", headers=headers)
        await traced.client.get("/v1/models")
        await traced.client.get("/v1/models", headers={"traceparent": "nonsense"})
    (request,) = traced.requests
    assert f"{request.context.trace_id:032x}" == TRACE_ID
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == SPAN_ID
    assert request.parent.is_remote


async def test_a_failing_model_is_an_error(trace: Trace) -> None:
    async with trace() as traced:
        put_runner(traced.client, Failing())
        await traced.client.rerank(ITEMS)
        await traced.client.rerank(ITEMS, strict=True)
    fallback, strict = traced.requests
    assert fallback.status.status_code == strict.status.status_code == StatusCode.ERROR
    assert fallback.attributes["rerank.fallback"] == fallback.attributes["error.type"] == "model"
    assert (strict.attributes["http.response.status_code"], strict.attributes["error.type"]) == (503, "503")
    for request in (fallback, strict):
        infer = traced.stages(request)["infer"]
        assert infer.status.status_code == StatusCode.ERROR
        assert not infer.attributes


async def test_a_missed_deadline_says_in_which_stage(trace: Trace) -> None:
    async with trace() as traced:
        gate, scheduler = held(traced.client), traced.client.service.models.get().scheduler
        lane = scheduler._long
        inferring = asyncio.create_task(traced.client.rerank(ITEMS, deadline_ms=9_999))
        await eventually(lambda: bool(lane.running))
        queued = asyncio.create_task(traced.client.rerank(ITEMS, deadline_ms=9_999))
        await eventually(lambda: bool(lane.queue))
        scheduler._expire(lane, next(iter(lane.queue)))  # as their deadlines do
        await queued
        scheduler._expire(lane, lane.running[0])
        await inferring
        gate.set()
    in_queue, in_inference = traced.requests
    assert in_queue.attributes["rerank.deadline_stage"] == "queue"
    assert traced.stages(in_queue)["queue"].status.status_code == StatusCode.ERROR
    assert "infer" not in traced.stages(in_queue)
    assert in_inference.attributes["rerank.deadline_stage"] == "infer"
    infer = traced.stages(in_inference)["infer"]
    assert infer.status.status_code == StatusCode.ERROR
    assert infer.end_time <= in_inference.end_time, "it went on, but not for this request"
    assert in_inference.attributes["rerank.fallback"] == "deadline"


async def test_a_refused_body_is_the_callers_error(trace: Trace) -> None:
    async with trace() as traced:
        await traced.client.rerank(["i1", "i1"])
    (request,) = traced.requests
    assert request.attributes["http.response.status_code"] == 422
    assert request.status.status_code == StatusCode.UNSET
    assert traced.stages(request)["parse"].status.status_code == StatusCode.ERROR


async def test_no_ids_of_people_or_items_and_no_probes(trace: Trace) -> None:
    async with trace() as traced:
        answer = await traced.client.rerank([*ITEMS, "item-xyz"], user_id="person-xyz")
        events = [{"type": "click", "item_id": "item-xyz"}]
        feedback = {"recommendation_id": answer.json()["recommendation_id"], "events": events}
        await traced.client.post("/v1/feedback", json=feedback)
        await traced.client.get("/v1/users/person-xyz/context")
        await traced.client.delete("/v1/users/person-xyz/context")
        await traced.client.rerank([{"id": "item-xyz", "features": {"price": "item-xyz"}}])
        await traced.client.get("/no/such/person-xyz")
        for probe in ("/livez", "/readyz", "/metrics"):
            await traced.client.get(probe)
    assert len(traced.requests) == 6
    assert "xyz" not in "".join(span.to_json() for span in traced.spans)
    names = {request.name for request in traced.requests}
    assert "DELETE /v1/users/{user_id:any}/context" in names


def test_off_imports_nothing_of_the_sdk(bundle: Path) -> None:
    """Nor does it need it: the extra may be absent, which the setting tells with what to do."""
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = sys.modules['opentelemetry.exporter'] = None\n"
        "from service.__main__ import read_settings\n"
        "from service.app import create_app\n"
        "create_app(read_settings(['--bundle', sys.argv[1]]))\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk.')]\n"
        "read_settings(['--bundle', sys.argv[1], '--otel-endpoint', 'http://127.0.0.1:4318'])\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(bundle)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert "--otel-endpoint" in run.stderr
    assert "eglr-reranker[otel]" in run.stderr


@pytest.fixture
def collector() -> Any:
    """A collector's HTTP side, in a thread: its address and what it was sent."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_collector_receives_the_spans(collector: Any, bundle: Path) -> None:
    address, received = collector
    app = create_app(Settings(bundle=bundle, otel_endpoint=address, otel_service_name="ranker"))
    async with app.router.lifespan_context(app), Client(app) as client:
        await client.rerank(ITEMS)
    groups = [group for request in received for group in request.resource_spans]
    names = [span.name for group in groups for scope in group.scope_spans for span in scope.spans]
    assert sorted(names) == sorted([*STAGES, "POST /v1/rerank"])
    resource = {one.key: one.value.string_value for group in groups for one in group.resource.attributes}
    assert resource["service.name"] == "ranker"


async def test_a_dead_collector_costs_no_request(bundle: Path) -> None:
    app = create_app(Settings(bundle=bundle, otel_endpoint="http://127.0.0.1:9"))
    async with app.router.lifespan_context(app), Client(app) as client:
        assert (await client.rerank(ITEMS)).json()["fallback"] is None
