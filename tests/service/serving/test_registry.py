"""Several models at once: which one answers, and that nothing of one is told of another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from eventually import eventually
from faulty_runners import Gate, Held
from model_changes import load, swap, unload
from prometheus_client.parser import text_string_to_metric_families
from rerank_client import Client, Serve

from launch.bundles import copied
from service.bodies.rerank import RerankRequest
from service.errors import NotFoundError
from service.serving.plan import ModelKey

ITEMS = [f"i{n}" for n in range(12)]
FIRST, SECOND, OTHER = ModelKey("eglr", "1"), ModelKey("eglr", "2"), ModelKey("other", "1")

Named = Callable[[ModelKey], Path]


@pytest.fixture
def named(bundle: Path, tmp_path: Path) -> Named:
    """The bundle, by another name and version."""

    return lambda key: copied(bundle, tmp_path, *key)


@pytest.fixture
async def client(serve: Serve, named: Named) -> AsyncIterator[Client]:
    """Three models: the default one, another version of it, and one of another name."""
    async with serve(drift_window=3) as client:
        await load(client, named(SECOND))
        await load(client, named(OTHER))
        yield client


async def rerank(client: Client, key: ModelKey, **fields: Any) -> Any:
    request = RerankRequest.model_validate({"items": [{"id": item} for item in ITEMS], **fields})
    with client.service.models.get(*key) as served:
        return await client.service.reranker.rerank(served, request, "request", monotonic())


async def samples(client: Client, name: str, **labels: str) -> dict[ModelKey, float]:
    """One of each model."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    return {
        ModelKey(sample.labels["model"], sample.labels["version"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def hold(client: Client, key: ModelKey) -> Gate:
    """Keep a model's inferences waiting for the event."""
    served, gate = client.service.models.get(*key), Gate()
    served.scheduler._batch_s = 0.0  # a model known to be slow
    served.scheduler._generate = replace(served.model, runner=Held(served.model.runner, gate)).generate
    return gate


async def test_each_is_found_by_its_name_and_version(client: Client) -> None:
    models = client.service.models
    asked = [(), ("eglr",), ("eglr", "1"), ("eglr", "2"), ("other",), ("other", "1")]
    assert [models.get(*key).key for key in asked] == [FIRST, FIRST, FIRST, SECOND, OTHER, OTHER]
    with pytest.raises(NotFoundError, match="no model 'other' '2'; served: eglr 1, eglr 2, other 1"):
        models.get("other", "2")
    with pytest.raises(NotFoundError, match="no model 'nobody'; served"):
        models.get("nobody")
    listed = (await client.get("/v1/models")).json()["models"]
    assert [(model["name"], model["version"]) for model in listed] == [FIRST, SECOND, OTHER]
    body = {"items": [{"id": item} for item in ITEMS]}
    assert (await client.post("/v1/models/other/rerank", json=body)).json()["model"] == "other"
    assert (await client.post("/v1/models/eglr/rerank", json=body)).json()["model_version"] == "1"


async def test_what_they_count_does_not_mix(client: Client) -> None:
    counts = {FIRST: 1, SECOND: 2, OTHER: 3}
    for key, count in counts.items():
        for _ in range(count):
            assert (await rerank(client, key)).fallback is None
    for name in ("list_size", "batch_size", "reasoning_tokens"):
        assert await samples(client, f"rerank_{name}_count") == counts
    for stage in ("features", "queue", "infer", "post"):
        assert await samples(client, "rerank_stage_duration_seconds_count", stage=stage) == counts
    entropy = await samples(client, "rerank_gate_entropy_nats_count", position="0", when="before")
    assert entropy == counts
    assert await samples(client, "rerank_score_count") == {key: 10 * n for key, n in counts.items()}

    assert (await rerank(client, OTHER, deadline_ms=0.001)).fallback == "deadline"
    only_other = {FIRST: 0, SECOND: 0, OTHER: 1}
    assert await samples(client, "rerank_fallback_total", reason="deadline") == only_other
    assert await samples(client, "rerank_deadline_exceeded_total", stage="parse") == only_other


async def test_each_has_a_queue_of_its_own(client: Client) -> None:
    gates = [hold(client, key) for key in (SECOND, OTHER)]
    schedulers = [client.service.models.get(*key).scheduler for key in (SECOND, OTHER)]
    waiting = [asyncio.create_task(rerank(client, key)) for key in (SECOND, OTHER)]
    await eventually(lambda: all(scheduler._long.running for scheduler in schedulers))
    waiting += [asyncio.create_task(rerank(client, key)) for key in (SECOND, SECOND, OTHER)]
    await eventually(lambda: [len(scheduler._long.queue) for scheduler in schedulers] == [2, 1])
    expected = {FIRST: 0, SECOND: 2, OTHER: 1}
    assert await samples(client, "rerank_queue_depth") == expected
    assert await samples(client, "rerank_concurrency_limit") == dict.fromkeys(expected, 1024)
    assert (await rerank(client, FIRST)).fallback is None, "nothing waits there"
    for gate in gates:
        gate.set()
    assert {answer.fallback for answer in await asyncio.gather(*waiting)} == {None}
    assert await samples(client, "rerank_queue_depth") == dict.fromkeys(expected, 0)


async def test_each_has_a_drift_of_its_own(client: Client) -> None:
    for _ in range(3):
        await rerank(client, SECOND)
    await rerank(client, OTHER)
    assert await samples(client, "rerank_drift_window_lists") == {FIRST: 0, SECOND: 3, OTHER: 1}
    assert set(await samples(client, "rerank_drift_psi", signal="list_size")) == {SECOND}


async def test_an_unloaded_model_takes_its_series_with_it(client: Client) -> None:
    async def lines(key: ModelKey) -> list[str]:
        labels = (f'model="{key.name}"', f'version="{key.version}"')
        text = (await client.get("/metrics")).text
        return [line for line in text.splitlines() if all(label in line for label in labels)]

    for key in (FIRST, SECOND, OTHER):
        await rerank(client, key)
    kept = [await lines(FIRST), await lines(OTHER)]
    gate = hold(client, SECOND)
    last = asyncio.create_task(rerank(client, SECOND))
    scheduler = client.service.models.get(*SECOND).scheduler
    await eventually(lambda: bool(scheduler._long.running))
    await unload(client, SECOND)
    with pytest.raises(NotFoundError):
        client.service.models.get(*SECOND)
    assert len(await lines(SECOND)) == len(kept[0]), "it still has a request"
    gate.set()
    assert (await last).model_version == "2"
    await asyncio.wait(client.service.models._retiring)
    assert await lines(SECOND) == []
    assert [await lines(FIRST), await lines(OTHER)] == kept


async def test_a_swap_leaves_other_names_alone(client: Client, named: Named) -> None:
    third = ModelKey("eglr", "3")
    await swap(client, named(third))
    assert [served.key for served in client.service.models.all()] == [third, OTHER]
    assert client.service.models.get().key == third, "the default is a name"


async def test_a_version_that_is_loaded_again_counts_on(client: Client, bundle: Path, tmp_path: Path) -> None:
    for _ in range(3):
        await rerank(client, FIRST)
    assert FIRST in await samples(client, "rerank_drift_psi", signal="score")
    old = client.service.models.get()
    await swap(client, copied(bundle, tmp_path, *FIRST, dataset="another"))
    assert client.service.models.get() is not old
    await rerank(client, FIRST)
    assert (await samples(client, "rerank_list_size_count"))[FIRST] == 4
    assert (await samples(client, "rerank_drift_window_lists"))[FIRST] == 1, "its drift begins anew"
    assert FIRST not in await samples(client, "rerank_drift_psi", signal="score")
