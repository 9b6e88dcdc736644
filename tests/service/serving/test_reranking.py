"""Never worse than not calling us: every failure answers the caller's order, or, if strict, the error."""

import asyncio
from typing import Any

import pytest
from eventually import eventually
from faulty_runners import Confused, Failing, held, put_runner
from rerank_client import Client, Serve
from steered_clock import SteeredClock, turns

from service.serving.cost import CostModel, Pace, Timing

ITEMS = [f"i{n}" for n in range(12)]
IN_ORDER = [{"id": item, "index": n, "score": None, "propensity": None} for n, item in enumerate(ITEMS[:10])]

GONE_MS = 1e-6
"""A deadline that has passed when the body is read."""


def assert_fallback(answer: dict[str, Any], reason: str) -> None:
    assert answer["fallback"] == reason
    assert answer["results"] == IN_ORDER
    assert answer["reasoning"] is None
    assert answer["sampling"] is None


async def test_a_deadline_that_has_passed_already(client: Client) -> None:
    answer = await client.rerank(ITEMS, deadline_ms=GONE_MS, sampling={})
    assert answer.status_code == 200
    assert_fallback(answer.json(), "deadline")
    assert answer.json()["recommendation_id"] is None, "the store was not asked"
    assert answer.json()["context"] is None
    strict = await client.rerank(ITEMS, deadline_ms=GONE_MS, strict=True)
    assert (strict.status_code, strict.json()["error_type"]) == (504, "deadline")
    assert await client.metric('rerank_fallback_total{reason="deadline"}') == 1
    assert await client.metric('rerank_deadline_exceeded_total{stage="parse"}') == 2


async def test_fallbacks_honour_return_all_and_missing_ids(client: Client) -> None:
    items = ["nobody", *ITEMS]
    answer = (await client.rerank(items, deadline_ms=GONE_MS, return_all=True, top_n=2)).json()
    assert [result["id"] for result in answer["results"]] == items
    assert answer["missing_ids"] == ["nobody"]
    cut = (await client.rerank(items, deadline_ms=GONE_MS, top_n=2)).json()
    assert [result["id"] for result in cut["results"]] == items[:2]


async def test_inference_beyond_the_deadline(serve: Serve, clock: SteeredClock) -> None:
    async with serve(clock) as client:
        gate = held(client)
        inferring = asyncio.create_task(client.rerank(ITEMS, deadline_ms=60))
        await eventually(gate.reached.is_set)
        queued = asyncio.create_task(client.rerank(ITEMS, deadline_ms=60, strict=True))
        await turns()
        await clock.advance(0.06)
        assert inferring.done()
        assert queued.done()
        answer = (await inferring).json()
        assert_fallback(answer, "deadline")
        assert answer["took_ms"] == 60
        assert answer["recommendation_id"] is not None, "it was recorded, and shown in the caller's order"
        assert (await queued).status_code == 504
        gate.set()
        assert (await client.rerank(ITEMS)).json()["fallback"] is None
        assert await client.metric('rerank_deadline_exceeded_total{stage="infer"}') == 1
        assert await client.metric('rerank_deadline_exceeded_total{stage="queue"}') == 1
        assert await client.metric('rerank_shed_total{reason="deadline"}') == 1


async def test_requests_without_a_deadline_get_the_default(serve: Serve, clock: SteeredClock) -> None:
    async with serve(clock, default_deadline_ms=50) as client:
        gate = held(client)
        asked = asyncio.create_task(client.rerank(ITEMS))
        await eventually(gate.reached.is_set)
        await clock.advance(0.05)
        assert asked.done()
        assert_fallback((await asked).json(), "deadline")
        gate.set()


async def test_overload(serve: Serve) -> None:
    async with serve(max_queue=1) as client:
        gate = held(client)
        waiting = [asyncio.create_task(client.rerank(ITEMS))]
        await eventually(gate.reached.is_set)
        waiting.append(asyncio.create_task(client.rerank(ITEMS)))
        await turns()
        answer = await client.rerank(ITEMS)
        assert answer.status_code == 200
        assert_fallback(answer.json(), "overload")
        assert answer.json()["context"] is None, "refused before anything was done for it"
        strict = await client.rerank(ITEMS, strict=True)
        assert (strict.status_code, strict.json()["error_type"]) == (429, "overloaded")
        assert int(strict.headers["retry-after"]) >= 1
        assert f"try again in {strict.headers['retry-after']} s" in strict.json()["error"]
        assert (await client.get("/livez")).status_code == 200, "health is not limited"
        gate.set()
        assert all(answer.json()["fallback"] is None for answer in await asyncio.gather(*waiting))
        assert await client.metric('rerank_shed_total{reason="overload"}') == 2
        durations = "rerank_request_duration_seconds_count"
        assert await client.metric(f'{durations}{{outcome="shed"}}') == 2, "fast, and no measure of the queue"
        assert await client.metric(f'{durations}{{endpoint="/v1/rerank",outcome="served"}}') == 2


async def test_retry_after_is_the_predicted_wait(serve: Serve, clock: SteeredClock) -> None:
    async with serve(clock) as client:
        gate = held(client)
        first = asyncio.create_task(client.rerank(ITEMS))
        await eventually(gate.reached.is_set)
        client.service.models.get().scheduler._long.ends_at = clock() + 6.5
        strict = await client.rerank(ITEMS, strict=True, deadline_ms=5000)
        assert (strict.status_code, strict.headers["retry-after"]) == (429, "7")
        gate.set()
        await first


async def test_waiting_in_the_socket_is_part_of_the_deadline(serve: Serve, clock: SteeredClock) -> None:
    """What is read after the event loop stood still for 50 ms may have waited for as long."""
    async with serve(clock) as client:
        await clock.advance(0.05)
        hurried = (await client.rerank(ITEMS, deadline_ms=20)).json()
        assert_fallback(hurried, "deadline")
        patient = (await client.rerank(ITEMS, deadline_ms=30_000)).json()
        assert patient["fallback"] is None
        assert patient["took_ms"] == pytest.approx(45, abs=5)


@pytest.mark.parametrize("fault", [Failing, Confused])
async def test_a_model_fault(client: Client, fault: Any) -> None:
    real = client.service.models.get().model.runner
    put_runner(client, fault() if fault is Failing else fault(real))
    answer = await client.rerank(ITEMS)
    assert answer.status_code == 200
    assert_fallback(answer.json(), "model")
    assert answer.json()["recommendation_id"] is not None
    strict = await client.rerank(ITEMS, strict=True)
    assert (strict.status_code, strict.json()["error_type"]) == (503, "unavailable")
    assert await client.metric('rerank_fallback_total{reason="model"}') == 1
    put_runner(client, real)
    assert (await client.rerank(ITEMS)).json()["fallback"] is None


async def test_a_fault_of_our_own_is_a_fallback_too(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("service.serving.reranking.assemble", broken)
    assert_fallback((await client.rerank(ITEMS)).json(), "model")


async def test_tight_deadlines_shed_reasoning_first(serve: Serve, clock: SteeredClock) -> None:
    """With the estimate of a slow model, the slate still comes, without most of its reasoning tokens."""
    eager = {"entropy_threshold": 0.0, "max_tokens": 8}
    slow = CostModel([Timing(1, 0.0, 0.5, 0.5), Timing(50, 0.0, 0.5, 0.5)], marginal=1.0)
    async with serve(clock) as client:
        free = (await client.rerank(ITEMS, reasoning=eager)).json()
        assert (free["reasoning"]["tokens"], free["reasoning"]["stop"]) == (80, "budget")
        scheduler = client.service.models.get().scheduler
        scheduler._costs = slow
        for lane in scheduler._lanes:
            lane.pace = Pace()  # by the standing clock the first list took no time
        tight = (await client.rerank(ITEMS, reasoning=eager, deadline_ms=8000)).json()
    assert tight["fallback"] is None
    assert len(tight["results"]) == 10
    assert (tight["reasoning"]["tokens"], tight["reasoning"]["stop"]) == (6, "deadline"), "16 - 10 steps"
