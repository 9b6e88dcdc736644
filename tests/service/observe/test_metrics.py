"""What /metrics says after known requests."""

import logging
import time
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rerank_client import Client, Serve

from service.observe.metrics import Metrics

ITEMS = [f"i{n}" for n in range(24)]


async def test_a_reranks_metrics(client: Client) -> None:
    seen = [{"item_id": "i1", "type": "click", "timestamp": 1700000000}]
    await client.put("/v1/users/known/context", json={"history": seen})
    answers = [
        (await client.rerank(ITEMS, user_id="known", explain=True)).json(),
        (await client.rerank([*ITEMS, "nobody"], user_id="stranger", explain=True)).json(),
        (await client.rerank(ITEMS[:3], explain=True)).json(),
    ]
    await client.rerank([])
    expected = {
        'rerank_requests_total{code="200",endpoint="/v1/rerank"}': 3,
        'rerank_requests_total{code="422",endpoint="/v1/rerank"}': 1,
        'rerank_request_duration_seconds_count{endpoint="/v1/rerank"}': 4,
        'rerank_stage_duration_seconds_count{stage="parse"}': 4,
        "rerank_list_size_count": 3,
        "rerank_list_size_sum": 24 + 25 + 3,
        "rerank_batch_size_sum": 3,
        "rerank_reasoning_tokens_sum": sum(answer["reasoning"]["tokens"] for answer in answers),
        'rerank_gate_entropy_nats_count{position="0",when="before"}': 3,
        'rerank_gate_entropy_nats_count{position="9",when="after"}': 2,
        "rerank_score_count": 10 + 10 + 3,
        'rerank_context_lookups_total{result="hit"}': 1,
        'rerank_context_lookups_total{result="miss"}': 1,
        'rerank_context_lookups_total{result="anonymous"}': 1,
        "rerank_context_age_seconds_count": 1,
        "rerank_unknown_items_total": 1,
        "rerank_cold_users_total": 1,
        "rerank_queue_depth": 0,
        "rerank_inflight_requests": 1,  # the one that asks
        "rerank_concurrency_limit": 1024,
        'rerank_model_loaded{model="eglr",version="1"}': 1,
        'rerank_provider_active{provider="CPUExecutionProvider"}': 1,
        'rerank_held_out_entropy_nats{position="9",when="after"}': 1.0,
        "rerank_held_out_trigger_ratio": 0.4,
    }
    for stage in ("context", "features", "queue", "infer", "post"):
        expected[f'rerank_stage_duration_seconds_count{{stage="{stage}"}}'] = 3
    assert {name: await client.metric(name) for name in expected} == expected
    trace = [position for answer in answers for position in answer["reasoning"]["trace"]]
    reasoned = sum(position["reasoning_tokens"] > 0 for position in trace)
    assert 0 < reasoned < len(trace)
    assert await client.metric("rerank_reasoned_positions_total") == reasoned
    assert await client.metric("rerank_score_sum") == pytest.approx(sum(p["probability"] for p in trace))
    stops = [
        await client.metric(f'rerank_reasoning_stop_total{{reason="{s}"}}') for s in ("entropy", "budget")
    ]
    assert sum(stops) == 3
    manifest = client.service.models.get().model.manifest
    created = datetime.fromisoformat(manifest.created).timestamp()
    assert await client.metric("rerank_model_created_timestamp_seconds") == created
    assert created < await client.metric("rerank_model_load_timestamp_seconds") <= time.time()


async def test_what_has_not_happened_yet_is_there_at_0(client: Client) -> None:
    lines = (await client.get("/metrics")).text.splitlines()
    for name, label, values in (
        ("fallback_total", "reason", ("deadline", "overload", "model", "unknown")),
        ("shed_total", "reason", ("deadline", "overload")),
        ("deadline_exceeded_total", "stage", ("parse", "rules", "context", "features", "queue", "infer")),
        ("reasoning_stop_total", "reason", ("entropy", "budget", "deadline")),
        ("stage_duration_seconds_count", "stage", ("rules", "features", "queue", "infer", "post")),
        ("constrained_requests_total", "result", ("whole", "shortened", "refused", "undecided", "late")),
    ):
        for value in values:
            assert f'rerank_{name}{{model="eglr",{label}="{value}",version="1"}} 0.0' in lines
    for result in ("hit", "miss", "anonymous", "unavailable", "timeout", "not_asked"):
        assert f'rerank_context_lookups_total{{result="{result}"}} 0.0' in lines
    for stage in ("parse", "context"):
        sample = f'rerank_stage_duration_seconds_count{{model="",stage="{stage}",version=""}} 0.0'
        assert sample in lines, "of no model"


async def test_what_objectives_read_is_there_before_the_first_request(client: Client) -> None:
    text = (await client.get("/metrics")).text
    for endpoint in ("/v1/rerank", "/v1/models/{model}/rerank"):
        for code in (200, 429, 500, 503, 504):
            assert f'rerank_requests_total{{code="{code}",endpoint="{endpoint}"}} 0.0' in text
        for outcome in ("served", "shed", "invalid", "failed"):
            labels = f'endpoint="{endpoint}",le="0.05",outcome="{outcome}"'
            assert f"rerank_request_duration_seconds_bucket{{{labels}}} 0.0" in text
    for code in (202, 503):
        assert f'rerank_requests_total{{code="{code}",endpoint="/v1/feedback"}} 0.0' in text


async def test_the_process_is_told_of(client: Client) -> None:
    assert await client.metric("rerank_process_resident_memory_bytes") > 1e7
    spent = await client.metric("rerank_process_cpu_seconds_total")
    assert 0 < spent <= await client.metric("rerank_process_cpu_seconds_total")
    assert 0 < await client.metric("rerank_process_start_time_seconds") < time.time()
    assert await client.metric("rerank_context_store_up") == 1
    assert await client.metric("rerank_event_loop_lag_seconds_count") > 0


async def test_a_provider_that_fell_back_is_there_at_0(client: Client) -> None:
    metrics = Metrics()
    manifest = client.service.models.get().model.manifest
    served = metrics.for_model("m", "1")
    served.serving(manifest, "CUDAExecutionProvider", "CPUExecutionProvider", drift_window=1)
    text = (await metrics.text()).decode()
    assert 'rerank_provider_active{model="m",provider="CUDAExecutionProvider",version="1"} 0.0' in text
    assert 'rerank_provider_active{model="m",provider="CPUExecutionProvider",version="1"} 1.0' in text


async def test_entropy_by_position_agrees_with_the_trace(client: Client) -> None:
    trace = (await client.rerank(ITEMS, explain=True)).json()["reasoning"]["trace"]
    for position in (0, 4):
        for when in ("before", "after"):
            name = f'rerank_gate_entropy_nats_sum{{position="{position}",when="{when}"}}'
            assert await client.metric(name) == trace[position][f"entropy_{when}"]


async def test_late_positions_share_a_label(client: Client) -> None:
    await client.rerank(ITEMS, top_n=24)
    assert await client.metric('rerank_gate_entropy_nats_count{position="20+",when="after"}') == 4


async def test_ignored_fields_are_counted_by_name_as_far_as_there_is_room(serve: Serve) -> None:
    async with serve(max_ignored_fields=2) as client:
        for n in range(5):
            await client.rerank([{"id": "i1", "features": {f"colour{n}": 1, "genres": "opera"}}])
        total = "rerank_ignored_fields_total"
        assert await client.metric(f'{total}{{field="items.features.colour0",reason="undeclared"}}') == 1
        assert await client.metric(f'{total}{{field="items.features.genres",reason="unknown_value"}}') == 5
        assert await client.metric(f'{total}{{field="other",reason="undeclared"}}') == 4
        assert await client.metric(total) == 10


async def test_labels_are_small_closed_sets(client: Client) -> None:
    """No id of a user, an item or a made-up path may become a time series."""
    await client.get("/no/such/path")
    await client.get("/v1/users/somebody/context")
    await client.rerank(["i1"], user_id="somebody")
    text = (await client.get("/metrics")).text
    assert "somebody" not in text
    assert "/no/such" not in text
    assert await client.metric('rerank_requests_total{code="404",endpoint="unmatched"}') == 1
    families = list(text_string_to_metric_families(text))
    assert families
    assert all(family.name.startswith("rerank_") for family in families)
    allowed = {
        "endpoint",
        "code",
        "stage",
        "reason",
        "model",
        "version",
        "when",
        "position",
        "result",
        "signal",
        "outcome",
        "field",
    }
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    assert labels <= allowed | {"le", "provider"}


async def test_two_apps_count_apart(serve: Serve) -> None:
    async with serve() as one, serve() as other:
        await one.rerank(ITEMS)
        assert await one.metric("rerank_list_size_count") == 1
        assert await other.metric("rerank_list_size_count") == 0


def worker(path: Path, list_size: float) -> Metrics:
    """Of several; it has counted a little."""
    metrics = Metrics(path)
    metrics.inflight.inc()
    metrics.context_lookups.labels("hit").inc(3)
    model = metrics.for_model("m", "1")
    model.list_size.observe(list_size)
    model.drift.labels("score", "all").set(list_size / 100)
    return metrics


async def leave_behind(metrics: Metrics) -> None:
    async with metrics.kept_written():
        pass


async def lines(metrics: Metrics) -> list[str]:
    return (await metrics.text()).decode().splitlines()


MODEL = 'model="m",version="1"'


async def test_any_worker_answers_for_all(tmp_path: Path) -> None:
    """Counts and gauges of both; the drift is the worst of them."""
    one, other = worker(tmp_path / "a.families", 10), worker(tmp_path / "b.families", 40)
    await leave_behind(one)
    one.context_lookups.labels("hit").inc()  # which nobody else can know yet
    found = await lines(other)
    for sample in (
        f"rerank_list_size_count{{{MODEL}}} 2.0",
        f"rerank_list_size_sum{{{MODEL}}} 50.0",
        f'rerank_list_size_bucket{{le="10.0",{MODEL}}} 1.0',
        "rerank_inflight_requests 2.0",
        'rerank_context_lookups_total{result="hit"} 6.0',
        'rerank_context_lookups_total{result="miss"} 0.0',
        'rerank_drift_psi{model="m",position="all",signal="score",version="1"} 0.4',
    ):
        assert sample in found


async def test_what_one_worker_unloads_the_sum_keeps(tmp_path: Path) -> None:
    """Until the last of them unloads it: a sum that falls is a restart to Prometheus."""
    one, other = (worker(tmp_path / f"{name}.families", 10) for name in "ab")
    for metrics, left in ((one, f"rerank_list_size_count{{{MODEL}}} 2.0"), (other, None)):
        ((_, model),) = metrics._models.items()
        metrics.model_gone(model)
        await leave_behind(metrics)
        counts = [line for line in await lines(other) if line.startswith("rerank_list_size_count")]
        assert counts == ([left] if left else [])
    assert not [line for line in await lines(one) if MODEL in line]


async def test_a_worker_goes_on_where_the_one_before_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.families"
    await leave_behind(worker(path, 10))
    successor = Metrics(path)
    assert 'rerank_context_lookups_total{result="hit"} 3.0' in await lines(successor)
    assert "rerank_inflight_requests 0.0" in await lines(successor)
    assert not [line for line in await lines(successor) if MODEL in line], "nothing is loaded yet"
    successor.for_model("m", "1").list_size.observe(1)
    assert f"rerank_list_size_count{{{MODEL}}} 2.0" in await lines(successor)


async def test_a_full_disk_is_told_once_and_costs_only_freshness(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, full = tmp_path / "a.families", tmp_path / "a.new"
    one, other = worker(path, 10), Metrics(tmp_path / "b.families")
    await leave_behind(one)
    full.symlink_to("/dev/full")
    one.context_lookups.labels("hit").inc()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await leave_behind(one)
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    assert 'rerank_context_lookups_total{result="hit"} 4.0' in await lines(one)
    assert 'rerank_context_lookups_total{result="hit"} 3.0' in await lines(other)
    full.unlink()
    await leave_behind(one)
    assert 'rerank_context_lookups_total{result="hit"} 4.0' in await lines(other)
