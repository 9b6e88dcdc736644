"""A bundle loaded under a name that is served takes over between two requests, and the old model goes."""

import asyncio
import gc
import json
import shutil
import weakref
from pathlib import Path

import pytest
from eventually import eventually
from faulty_runners import held
from rerank_client import Client

from bundle.manifest import MANIFEST, BundleError

ITEMS = [f"i{n}" for n in range(12)]


@pytest.fixture
def newer(bundle: Path, tmp_path: Path) -> Path:
    """The same model as another version."""
    shutil.copytree(bundle, tmp_path / "newer")
    manifest = json.loads((bundle / MANIFEST).read_text())
    (tmp_path / "newer" / MANIFEST).write_text(json.dumps({**manifest, "version": "2"}))
    return tmp_path / "newer"


async def test_requests_end_with_the_model_they_began_with(client: Client, newer: Path) -> None:
    models, gate = client.service.models, held(client)
    old = models.get()
    waiting = [asyncio.create_task(client.rerank(ITEMS)) for _ in range(3)]
    await eventually(gate.reached.is_set)
    swap = asyncio.create_task(models.swap(newer))
    await eventually(lambda: models.get() is not old)
    answer = (await client.rerank(ITEMS)).json()
    assert (answer["model_version"], answer["fallback"]) == ("2", None)
    assert not swap.done(), "the old model still has requests"
    gate.set()
    for late in await asyncio.gather(*waiting):
        assert (late.json()["model_version"], late.json()["fallback"]) == ("1", None)
        assert late.json()["results"] == answer["results"]
    await swap


async def test_only_the_live_version_is_told(client: Client, newer: Path, bundle: Path) -> None:
    for directory, version in ((newer, "2"), (bundle, "1"), (bundle, "1"), (newer, "2")):
        await client.service.models.swap(directory)
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
    await client.service.models.swap(newer)
    await client.rerank(ITEMS)
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


async def test_a_bundle_that_cannot_be_loaded_changes_nothing(client: Client, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        await client.service.models.swap(tmp_path)
    assert (await client.rerank(ITEMS)).json()["model_version"] == "1"
