"""Generated requests with rules: what is answered satisfies them, what is refused cannot be."""

import asyncio
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest
from answer_checker import Shop
from rerank_client import Client, Serve
from ruled_requests import Json, request
from tiny_bundle import GENRES, tiny_items

if TYPE_CHECKING:
    from tiny_bundle import TinyBundles

AT_ONCE = 16
CATALOGUE = tiny_items(Random(0), 200)


async def count_faults(client: Client, rng: Random, requests: int) -> Counter[str]:
    """Send so many, a few at once, so that they share batches, and check every answer."""
    shop, counts = Shop(CATALOGUE, ["genres"], slate_length=10), Counter[str]()

    async def send(body: Json, small: bool) -> None:
        response = await client.post("/v1/rerank", json=body)
        answer, outcome, faults = response.json(), "answered", []
        if response.status_code == 200:
            outcome = answer["fallback"] or ("shortened" if "shortened_by" in answer else "whole")
            faults = list(shop.faults(body, answer, thorough=small))
        elif response.status_code == 422:
            outcome = "refused"
            faults = list(shop.refusal_faults(body, answer["fields"])) if small else []
        elif response.status_code != 504 or not body.get("strict"):
            faults = [f"status {response.status_code}"]
        else:
            outcome = "strict"
        counts["sent"] += 1
        counts[outcome] += 1
        if faults:
            counts["violations"] += 1
            pytest.fail(f"{faults}\n{body}\n{answer}")

    while counts["sent"] < requests:
        smalls = [rng.random() < 0.5 for _ in range(AT_ONCE)]
        bodies = [request(rng, list(CATALOGUE), GENRES, small) for small in smalls]
        await asyncio.gather(*map(send, bodies, smalls))
    return counts


@pytest.fixture
async def client(serve: Serve, tiny_bundles: "TinyBundles"):  # type: ignore[no-untyped-def]
    async with serve(bundle=tiny_bundles(evaluators=2)) as client:
        yield client


async def test_a_few_hundred(client: Client) -> None:
    counts = await count_faults(client, Random(1), 400)
    assert (
        min(counts[outcome] for outcome in ("whole", "shortened", "deadline", "unknown", "refused", "strict"))
        > 0
    )


@pytest.mark.rules
async def test_a_hundred_thousand(client: Client) -> None:
    print(dict(await count_faults(client, Random(2), 100_000)))
