"""What /metrics says after known requests."""

import time

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
        "rerank_concurrency_limit": 64,
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
    assert await client.metric("rerank_model_load_timestamp_seconds") > 1.7e9
    created = await client.metric('rerank_model_created_timestamp_seconds{model="eglr",version="1"}')
    assert 0 <= time.time() - created < 3600


async def test_what_has_not_happened_yet_is_there_at_0(client: Client) -> None:
    text = (await client.get("/metrics")).text
    for sample in (
        *(f'rerank_fallback_total{{reason="{reason}"}} 0.0' for reason in ("deadline", "overload", "model")),
        *(f'rerank_shed_total{{reason="{reason}"}} 0.0' for reason in ("deadline", "overload")),
        *(
            f'rerank_deadline_exceeded_total{{stage="{stage}"}} 0.0'
            for stage in ("context", "queue", "infer")
        ),
        *(f'rerank_context_lookups_total{{result="{result}"}} 0.0' for result in ("unavailable", "timeout")),
        *(
            f'rerank_reasoning_stop_total{{reason="{stop}"}} 0.0'
            for stop in ("entropy", "budget", "deadline")
        ),
        'rerank_stage_duration_seconds_count{stage="features"} 0.0',
    ):
        assert sample in text.splitlines()


async def test_a_provider_that_fell_back_is_there_at_0(client: Client) -> None:
    metrics = Metrics()
    manifest = client.service.models.get().model.manifest
    metrics.model(manifest, "CUDAExecutionProvider", "CPUExecutionProvider", drift_window=1)
    text = (await metrics.text()).decode()
    assert 'rerank_provider_active{provider="CUDAExecutionProvider"} 0.0' in text
    assert 'rerank_provider_active{provider="CPUExecutionProvider"} 1.0' in text


async def test_entropy_by_position_agrees_with_the_trace(client: Client) -> None:
    trace = (await client.rerank(ITEMS, explain=True)).json()["reasoning"]["trace"]
    for position in (0, 4):
        for when in ("before", "after"):
            name = f'rerank_gate_entropy_nats_sum{{position="{position}",when="{when}"}}'
            assert await client.metric(name) == trace[position][f"entropy_{when}"]


async def test_late_positions_share_a_label(client: Client) -> None:
    await client.rerank(ITEMS, top_n=24)
    assert await client.metric('rerank_gate_entropy_nats_count{position="20+",when="after"}') == 4


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
    }
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    assert labels <= allowed | {"le", "provider"}


async def test_two_apps_count_apart(serve: Serve) -> None:
    async with serve() as one, serve() as other:
        await one.rerank(ITEMS)
        assert await one.metric("rerank_list_size_count") == 1
        assert await other.metric("rerank_list_size_count") == 0
