"""Log lines of real runs: one JSON object each, tied to their request, and without ids."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_runners import Failing, put_runner
from rerank_client import Client, Serve

from service.app import create_app
from service.observe import logs
from service.observe.answer_log import Sampled
from service.observe.tracing import Tracer
from service.settings import Settings

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PERSON, ITEM = "person-xyz", "item-xyz"  # frames show source lines, so these are not in them
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}


@pytest.fixture
def logged(bundle: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """`logged(log_level="debug")` begins logging so; `logged.lines()` are the lines since, read back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    class Logged:
        def __call__(self, **given: Any) -> None:
            logs.configure(Settings(bundle=bundle, **given))

        def lines(self) -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
            return [line for line in lines if line["logger"] != "httpx"]  # the test's own client

    yield Logged()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


async def everything_with_ids(client: Client) -> None:
    """Each route, right and wrong, with ids that are found if they are logged anywhere."""
    items = [*(f"i{n}" for n in range(12)), "item-xyz"]
    answer = (await client.rerank(items, user_id="person-xyz")).json()
    events = [{"type": "click", "item_id": "item-xyz"}]
    await client.post(
        "/v1/feedback", json={"recommendation_id": answer["recommendation_id"], "events": events}
    )
    await client.put("/v1/users/person-xyz/context", json={"profile": {"taste": "item-xyz"}})
    await client.get("/v1/users/person-xyz/context")
    await client.delete("/v1/users/person-xyz/context")
    await client.rerank([{"id": "item-xyz", "features": {"price": "item-xyz"}}], user_id="person-xyz")
    await client.rerank(["item-xyz", "item-xyz"], user_id="person-xyz")
    put_runner(client, Failing())
    await client.rerank(items, user_id="person-xyz")

    async def broken(*_: Any) -> None:
        raise KeyError(PERSON) from ValueError(ITEM)

    client.service.contexts.recommend = client.service.contexts.append = broken
    await client.rerank(items, user_id="person-xyz")
    await client.post("/v1/feedback", json={"recommendation_id": "r", "events": events})


@pytest.mark.parametrize("ids", ["none", "hashed"])
async def test_no_ids_at_info(ids: str, serve: Serve, logged: Any) -> None:
    logged(log_ids=ids)
    async with serve() as client:
        await everything_with_ids(client)
    lines = logged.lines()
    assert {line["level"] for line in lines} == {"info", "error", "warning"}
    assert "xyz" not in json.dumps(lines)
    assert not any("ids" in line for line in lines)
    _, inference, answer, unexpected = lines[:4]
    assert (answer["message"], answer["fallback"]) == ("a list came back as it was", "model")
    assert (answer["model"], answer["endpoint"], answer["code"]) == ("eglr", "/v1/rerank", 200)
    assert inference["message"] == "inference failed for a batch of 1: no more"
    assert "builtins.RuntimeError" in inference["exception"]
    assert "test_logs.py" in unexpected["exception"]
    assert "builtins.ValueError\n\nwhich led to\n\n" in unexpected["exception"]
    assert unexpected["exception"].endswith("builtins.KeyError\n")


async def test_debug_lines_have_hashed_ids_if_asked_for(serve: Serve, logged: Any) -> None:
    seen = []
    for key in ("one", "one", "other"):
        logged(log_level="debug", log_ids="hashed", log_ids_key=key)
        async with serve() as client:
            await client.rerank(["i1", "i2"], user_id="person-xyz")
            await client.rerank(["i1"])
        lines = [line for line in logged.lines() if line["message"].startswith("re-ranked")]
        assert "xyz" not in json.dumps(lines)
        named, anonymous = (line["ids"] for line in lines)
        assert anonymous["user_id"] is None
        assert anonymous["results"][0] in named["results"], "the same id is the same hash"
        assert len({named["user_id"], *named["results"]}) == 3
        seen.append(named)
    assert seen[0] == seen[1] != seen[2]


async def test_debug_lines_have_no_ids_unless_asked_for(serve: Serve, logged: Any) -> None:
    logged(log_level="debug")
    async with serve() as client:
        await client.rerank(["i1", "i2"], user_id="person-xyz")
    lines = [line for line in logged.lines() if line["message"].startswith("re-ranked")]
    assert len(lines) == 1
    assert "ids" not in lines[0]


async def test_a_line_names_its_request_and_the_callers_trace(serve: Serve, logged: Any) -> None:
    logged(log_level="debug")
    async with serve() as client:
        body = {"request_id": "r-body", "items": [{"id": "i1"}]}
        await client.post("/v1/rerank", json=body, headers={"x-request-id": "r-head", **TRACEPARENT})
        await client.post("/v1/rerank", json={"items": [{"id": "i1"}]}, headers={"x-request-id": "r-head"})
        logging.getLogger("test").warning("outside")
    lines = [line for line in logged.lines() if line["logger"] in ("service.serving.reranking", "test")]
    traced, untraced, outside = lines
    assert (traced["request_id"], traced["trace_id"], traced["span_id"]) == ("r-body", TRACE_ID, SPAN_ID)
    assert untraced["request_id"] == "r-head"
    assert not {"trace_id", "span_id"} & set(untraced)
    assert set(outside) == {"timestamp", "level", "logger", "message"}


async def test_a_line_of_a_traced_request_names_its_span(bundle: Path, logged: Any) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    settings, exporter = Settings(bundle=bundle), InMemorySpanExporter()
    logged(log_level="debug")
    app = create_app(settings, Tracer(settings, exporter))
    async with app.router.lifespan_context(app), Client(app) as client:
        await client.post("/v1/rerank", json={"items": [{"id": "i1"}]}, headers=TRACEPARENT)
    line = next(line for line in logged.lines() if line["logger"] == "service.serving.reranking")
    request = next(span for span in exporter.get_finished_spans() if span.name.startswith("POST"))
    assert line["trace_id"] == TRACE_ID
    assert line["span_id"] == f"{request.context.span_id:016x}" != SPAN_ID


def test_exceptions_are_told_whole_while_debugging(logged: Any) -> None:
    logged(log_level="debug")
    try:
        raise KeyError("person-xyz")
    except KeyError:
        logging.getLogger("test").exception("caught")
    logging.getLogger("test").error("none", exc_info=sys.exc_info())
    with_text, without = logged.lines()
    assert with_text["exception"].endswith("KeyError: 'person-xyz'")
    assert "exception" not in without


@pytest.mark.filterwarnings("default")
def test_warnings_are_lines_too(logged: Any) -> None:
    with warnings.catch_warnings():
        logged()
        warnings.warn("of two\nlines", UserWarning, stacklevel=1)
    (line,) = logged.lines()
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "UserWarning: of two\nlines" in line["message"]


async def test_a_line_for_each_answer_that_failed_was_refused_or_is_a_fallback(
    serve: Serve, logged: Any
) -> None:
    async with serve(answer_log_per_s=1000) as client:
        logged()
        await client.rerank(["i1", "i2"])
        await client.rerank(["i1"], deadline_ms=1e-6)
        await client.rerank(["i1"], deadline_ms=1e-6, strict=True)
        await client.rerank([PERSON])
        await client.rerank([])
        client.service.models.plan = None
        await client.rerank(["i1"])
    answers = [line for line in logged.lines() if line["logger"] == "service.observe.answer_log"]
    told = [(line["level"], line["message"], line["code"], line.get("fallback")) for line in answers]
    assert told == [
        ("warning", "a list came back as it was", 200, "deadline"),
        ("error", "a request failed", 504, None),
        ("warning", "a list came back as it was", 200, "unknown"),
        ("error", "a request failed", 503, None),
    ]
    reasons = [line.get("reason") for line in answers]
    late = "the deadline passed in stage parse"
    assert reasons == [late, late, None, "no model is loaded yet"]
    assert PERSON not in json.dumps(answers)
    assert all(line["took_ms"] >= 0 and line["request_id"] for line in answers)


async def test_a_flood_is_counted_instead_of_written(serve: Serve, logged: Any) -> None:
    """And drowns no line of another kind."""
    async with serve(answer_log_per_s=1e-9) as client:
        logged()
        for _ in range(5):
            await client.rerank(["nobody"])
        await client.rerank(["i1"], deadline_ms=1e-6)
    lines = [line["fallback"] for line in logged.lines() if line["logger"] == "service.observe.answer_log"]
    assert lines == ["unknown", "deadline"]


def test_the_next_line_says_how_many_were_left_out() -> None:
    sampled = Sampled(2.0, now=0.0)
    assert [sampled.take(0.0) for _ in range(5)] == [0, 0, None, None, None]
    assert [sampled.take(0.5), sampled.take(0.5), sampled.take(100.0)] == [3, None, 1]
    assert Sampled(0.0, now=0.0).take(1.0) is None


@pytest.mark.parametrize(("ratio", "lines"), [(0.0, 0), (1.0, 2)])
async def test_an_access_log_if_asked_for(ratio: float, lines: int, serve: Serve, logged: Any) -> None:
    async with serve(access_log_ratio=ratio) as client:
        logged()
        await client.rerank(["i1"])
        await client.rerank([{"id": PERSON, "features": {"price": PERSON}}])
    written = [line for line in logged.lines() if line["message"] == "a request was answered"]
    assert [line["code"] for line in written] == [200, 422][:lines]
    assert PERSON not in json.dumps(written), "nor what a 422 says of it"


async def test_start_up_says_what_is_served(serve: Serve, logged: Any, bundle: Path) -> None:
    logged()
    async with serve(decoding="graph"):
        (line,) = [line for line in logged.lines() if line["message"] == "a model is served"]
    assert (line["model"], line["version"], line["bundle"]) == ("eglr", "1", str(bundle))
    assert (line["provider"], line["decoding"]) == ("CPUExecutionProvider", "graph")
