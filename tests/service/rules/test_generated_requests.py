"""Generated requests with rules: what is answered satisfies them, what is refused cannot be."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
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
OUTCOMES = {"whole", "shortened", "deadline", "unknown", "refused", "strict"}
RARE = {"undecided", "late"}
"""Of rules that are hard to judge: too hard, or not in time on a busy machine."""


@pytest.fixture
async def client(serve: Serve, tiny_bundles: "TinyBundles") -> AsyncIterator[Client]:
    async with serve(bundle=tiny_bundles(evaluators=3)) as client:
        yield client


async def outcomes(client: Client, rng: Random, requests: int) -> tuple[Counter[str], list[str]]:
    """Send so many, a few at once, so that they share batches.

    Returns:
        How many there were of each outcome, and whatever is wrong with an answer.
    """
    shop, counts, wrong = Shop(CATALOGUE, ["genres"], slate_length=10), Counter[str](), list[str]()

    async def send(body: Json, small: bool) -> None:
        response = await client.post("/v1/rerank", json=body)
        answer, status = response.json(), response.status_code
        faults: list[str] = []
        if status == 200:
            outcome = answer["fallback"] or ("shortened" if "shortened_by" in answer else "whole")
            faults = list(shop.faults(body, answer, thorough=small))
        elif status == 422 and [field["field"] for field in answer["fields"]] == ["constraints"]:
            outcome = "undecided"
        elif status == 422:
            outcome = "refused"
            faults = list(shop.refusal_faults(body, answer["fields"], thorough=small))
        else:
            late = "strict" if body.get("strict") else "late"
            outcome = late if status in (429, 504) else f"status {status}"
        counts[outcome] += 1
        wrong.extend(f"{fault}\n{body}\n{answer}" for fault in faults)

    while counts.total() < requests:
        smalls = [rng.random() < 0.5 for _ in range(AT_ONCE)]
        bodies = [request(rng, list(CATALOGUE), GENRES, small) for small in smalls]
        await asyncio.gather(*map(send, bodies, smalls))
    return counts, wrong


async def test_a_few_hundred(client: Client) -> None:
    counts, wrong = await outcomes(client, Random(1), 400)
    assert not wrong, wrong[0]
    assert OUTCOMES <= set(counts) <= OUTCOMES | RARE


@pytest.mark.rules
async def test_a_hundred_thousand(client: Client) -> None:
    counts, wrong = await outcomes(client, Random(2), 100_000)
    print(f"\nsent {counts.total()}, violations {len(wrong)}, {dict(counts)}")
    assert not wrong, wrong[0]
    assert OUTCOMES <= set(counts) <= OUTCOMES | RARE
