"""Lookahead as callers ask for it, and where they cannot."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rerank_client import Client, Serve

from bundle.manifest import MANIFEST, Manifest

if TYPE_CHECKING:
    from tiny_bundle import TinyBundles

ITEMS = [f"i{n}" for n in range(24)]


@pytest.fixture(scope="module")
def judging(tiny_bundles: "TinyBundles") -> Path:
    return tiny_bundles(evaluators=3)


async def reranked(client: Client, **fields: Any) -> dict[str, Any]:
    answer = await client.rerank(ITEMS, **fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def order(answer: dict[str, Any]) -> list[str]:
    return [result["id"] for result in answer["results"]]


async def test_a_request_asks_for_it(serve: Serve, judging: Path) -> None:
    async with serve(bundle=judging) as client:
        own = await reranked(client)
        assert "judged" not in own["reasoning"]
        ahead = await reranked(client, reasoning={"lookahead": 3}, explain=True)
        assert ahead["reasoning"]["judged"] > 0
        assert order(ahead) != order(own)
        assert {result["propensity"] for result in ahead["results"]} == {1.0}
        assert [t["id"] for t in ahead["reasoning"]["trace"]] == order(ahead)
        again = await reranked(client, reasoning={"lookahead": 3})
        assert order(again) == order(ahead)
        assert await client.metric("rerank_judged_lists_sum") == 2 * ahead["reasoning"]["judged"]
        assert await client.metric("rerank_judged_lists_count") == 2


async def test_a_bundle_has_a_default_which_a_request_may_turn_off(
    serve: Serve, judging: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "ahead"
    shutil.copytree(judging, directory)
    manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    changed = manifest.model_copy(update={"lookahead": 2})
    (directory / MANIFEST).write_text(changed.model_dump_json())
    async with serve(bundle=directory) as client:
        assert (await reranked(client))["reasoning"]["judged"] > 0
        assert "judged" not in (await reranked(client, reasoning={"lookahead": 0}))["reasoning"]
        (model,) = (await client.get("/v1/models")).json()["models"]
        assert (model["evaluator"], model["defaults"]["lookahead"]) == (True, 2)
        sampled = await reranked(client, sampling={"seed": 3})
        assert "judged" not in sampled["reasoning"], "drawn, with the propensities it was drawn with"


async def test_not_with_sampling_and_not_without_an_evaluator(
    serve: Serve, judging: Path, client: Client
) -> None:
    async with serve(bundle=judging) as able:
        answer = await able.rerank(ITEMS, reasoning={"lookahead": 1}, sampling={"seed": 1})
        assert answer.status_code == 422
        (fault,) = answer.json()["fields"]
        assert fault["field"] == "reasoning.lookahead"
    answer = await client.rerank(ITEMS, reasoning={"lookahead": 1})
    assert answer.status_code == 422
    assert answer.json()["fields"] == [
        {"field": "reasoning.lookahead", "message": "this model has no evaluator"}
    ]
    assert (await client.rerank(ITEMS, reasoning={"lookahead": 0})).status_code == 200
    (model,) = (await client.get("/v1/models")).json()["models"]
    assert (model["evaluator"], model["defaults"]["lookahead"]) == (False, 0)
