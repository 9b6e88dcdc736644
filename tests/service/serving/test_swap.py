"""A bundle loaded under a name that is served takes over between two requests, and the old model goes."""

import asyncio
import gc
import weakref
from pathlib import Path

import pytest
from eventually import eventually
from faulty_runners import held
from model_changes import swap
from rerank_client import Client

from bundle.manifest import BundleError
from launch.bundles import copied

ITEMS = [f"i{n}" for n in range(12)]


@pytest.fixture
def newer(bundle: Path, tmp_path: Path) -> Path:
    """The same model as another version."""
    return copied(bundle, tmp_path, "eglr", "2")


async def test_requests_end_with_the_model_they_began_with(client: Client, newer: Path) -> None:
    models, gate = client.service.models, held(client)
    old = models.get()
    waiting = [asyncio.create_task(client.rerank(ITEMS)) for _ in range(3)]
    await eventually(gate.reached.is_set)
    await swap(client, newer)
    assert models.get() is not old
    answer = (await client.rerank(ITEMS)).json()
    assert (answer["model_version"], answer["fallback"]) == ("2", None)
    assert models._retiring, "the old model still has requests"
    gate.set()
    for late in await asyncio.gather(*waiting):
        assert (late.json()["model_version"], late.json()["fallback"]) == ("1", None)
        assert late.json()["results"] == answer["results"]
    await eventually(lambda: not models._retiring)


async def test_only_the_live_version_is_told(client: Client, newer: Path, bundle: Path) -> None:
    for directory, version in ((newer, "2"), (bundle, "1"), (bundle, "1"), (newer, "2")):
        await swap(client, directory)
        await eventually(lambda: not client.service.models._retiring)
        text = (await client.get("/metrics")).text
        told = [line for line in text.splitlines() if line.startswith("rerank_model_loaded{")]
        assert told == [f'rerank_model_loaded{{model="eglr",version="{version}"}} 1.0']
        (listed,) = (await client.get("/v1/models")).json()["models"]
        assert listed["version"] == version


async def test_the_old_model_is_freed(client: Client, newer: Path) -> None:
    old = client.service.models.get()
    gone = [weakref.ref(old.model), weakref.ref(old.model.runner)]
    await client.rerank(ITEMS)
    del old
    await swap(client, newer)
    await client.rerank(ITEMS)
    await eventually(lambda: not client.service.models._retiring)
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


async def test_a_bundle_that_cannot_be_loaded_changes_nothing(client: Client, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        await swap(client, tmp_path)
    assert (await client.rerank(ITEMS)).json()["model_version"] == "1"
