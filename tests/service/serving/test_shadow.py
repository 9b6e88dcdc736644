"""A second model that answers unseen: what is compared, and that callers wait for none of it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eventually import eventually
from model_changes import load
from rerank_client import Client, Serve
from scipy.stats import kendalltau

from launch.bundles import copied
from service.serving.plan import ModelKey
from service.serving.shadow import kendall_tau, overlap

ITEMS = [f"i{n}" for n in range(12)]
FIRST, SECOND = ModelKey("eglr", "1"), ModelKey("eglr", "2")


@pytest.fixture
async def client(serve: Serve, bundle: Path, tmp_path: Path) -> AsyncIterator[Client]:
    """A model, and itself by another version, which is its shadow."""
    async with serve(shadow_load=1.0, shadow_queue=2) as client:
        await load(client, copied(bundle, tmp_path, *SECOND))
        assert (await client.put("/v1/models/eglr/shadow", json={"version": "2"})).status_code == 200
        yield client


async def shown(client: Client, result: str = "compared") -> float:
    return await client.metric(f'rerank_shadow_requests_total{{version="2",result="{result}"}}')


async def until_shown(client: Client, count: int, result: str = "compared") -> None:
    async def there() -> bool:
        return await shown(client, result) >= count

    await eventually(there)


async def taus(client: Client) -> list[float]:
    """How many in all, and how many below 0.9. Prometheus has no sum of what may be negative."""
    return [await client.metric(f'rerank_shadow_kendall_tau_bucket{{le="{le}"}}') for le in ("+Inf", "0.9")]


class Waiting:
    """A runner that waits for `go`, in whatever thread it is run."""

    def __init__(self, real: Any) -> None:
        self.real, self.provider, self.decoding = real, real.provider, real.decoding
        self.reached, self.go = threading.Event(), threading.Event()

    def run(self, *batch: Any) -> Any:
        self.reached.set()
        assert self.go.wait(60)
        return self.real.run(*batch)


class Failing:
    provider, decoding = "CPUExecutionProvider", "native"

    def run(self, *batch: Any) -> Any:
        raise RuntimeError("as a broken model would")


def put_below(client: Client, runner: Any) -> None:
    served = client.service.models.get(*SECOND)
    served.model = replace(served.model, runner=runner)


async def test_a_model_agrees_with_itself(client: Client) -> None:
    seeded = {"temperature": 2.0, "seed": 5}
    for count, sampling in enumerate((None, seeded, {"temperature": 2.0}), 1):
        answer = (await client.rerank(ITEMS, sampling=sampling)).json()
        assert answer["model_version"] == "1"
        await until_shown(client, count)
    assert await taus(client) == [3, 0]
    assert await client.metric("rerank_shadow_overlap_ratio_sum") == 3
    tokens = [
        await client.metric(f'rerank_shadow_reasoning_tokens_sum{{of="{whose}"}}')
        for whose in ("live", "shadow")
    ]
    assert tokens[0] == tokens[1]
    for whose in ("live", "shadow"):
        assert await client.metric(f'rerank_shadow_duration_seconds_sum{{of="{whose}"}}') > 0
    assert await client.metric('rerank_list_size_count{version="2"}') == 0, "what is unseen is no traffic"


async def test_a_shadow_obeys_the_rules_of_the_request(client: Client) -> None:
    rules = {
        "pinned": [{"id": "i11", "position": 2}],
        "excluded": ["i0"],
        "at_most": [{"feature": "genres", "value": "drama", "count": 1, "window": 2}],
    }
    free = (await client.rerank(ITEMS)).json()["results"]
    assert (await client.rerank(ITEMS, constraints=rules)).json()["results"] != free
    await until_shown(client, 2)
    assert await taus(client) == [2, 0]


async def test_the_user_is_known_to_the_shadow_too(client: Client) -> None:
    history = [{"item_id": item, "type": "click"} for item in ITEMS[6:]]
    profile = {"taste": [3.0, -3.0, 3.0, -3.0]}
    await client.put("/v1/users/u/context", json={"profile": profile, "history": history})
    assert (await client.rerank(ITEMS, user_id="u")).json()["context"] == "hit"
    await until_shown(client, 1)
    assert await taus(client) == [1, 0]


async def test_nobody_waits_for_a_shadow_and_few_wait_in_it(client: Client) -> None:
    waiting = Waiting(client.service.models.get(*SECOND).model.runner)
    put_below(client, waiting)
    for _ in range(5):
        assert (await client.rerank(ITEMS)).json()["fallback"] is None
    assert await shown(client, "dropped") == 3, "two may wait"
    assert await shown(client) == 0
    waiting.go.set()
    await until_shown(client, 2)


async def test_a_failing_shadow_fails_alone(client: Client) -> None:
    put_below(client, Failing())
    assert (await client.rerank(ITEMS)).json()["fallback"] is None
    await until_shown(client, 1, "failed")
    assert (await client.get("/readyz")).status_code == 200


async def test_a_shadow_that_goes_is_waited_for(client: Client) -> None:
    waiting = Waiting(client.service.models.get(*SECOND).model.runner)
    put_below(client, waiting)
    await client.rerank(ITEMS)
    await eventually(waiting.reached.is_set)
    assert (await client.post("/v1/models/eglr/versions/2:unload")).status_code == 409, "it is a shadow"
    assert (await client.delete("/v1/models/eglr/shadow")).status_code == 200
    assert (await client.post("/v1/models/eglr/versions/2:unload")).status_code == 200
    assert client.service.models._retiring
    waiting.go.set()
    await eventually(lambda: not client.service.models._retiring)


async def test_a_share_of_none_shows_nothing(client: Client) -> None:
    await client.put("/v1/models/eglr/shadow", json={"version": "2", "share": 0})
    await client.rerank(ITEMS)
    await asyncio.sleep(0.1)
    assert not any([await shown(client, result) for result in ("compared", "dropped", "failed")])


async def test_it_takes_no_more_time_than_its_load(
    serve: Serve, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(shadow_load=0.2) as client:
        await load(client, copied(bundle, tmp_path, *SECOND))
        await client.put("/v1/models/eglr/shadow", json={"version": "2"})
        rests: list[float] = []
        (cell,) = [client.service.reranker._shadows]
        monkeypatch.setattr(cell._over, "wait", rests.append)
        await client.rerank(ITEMS)
        await until_shown(client, 1)
        took = await client.metric('rerank_shadow_duration_seconds_sum{of="shadow"}')
        (rest,) = rests
        assert rest >= 4 * took


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("abc", "abc", 1.0),
        ("abc", "cba", -1.0),
        ("abcd", "bacd", 2 / 3),
        ("ab", "xy", None),
        ("ax", "ay", None),
    ],
)
def test_agreement_on_the_order(first: str, second: str, expected: float | None) -> None:
    assert kendall_tau(first, second) == (None if expected is None else pytest.approx(expected))


def test_agreement_on_the_order_is_kendalls() -> None:
    first, second = "abcdefgh", "hbdacfxe"
    common = [item for item in first if item in second]
    expected = kendalltau(range(len(common)), [second.index(item) for item in common]).statistic
    assert kendall_tau(first, second) == pytest.approx(expected)


def test_agreement_on_the_items() -> None:
    assert overlap("abcd", "bax") == 2 / 3
    assert overlap("abc", "xyz") == 0
    assert overlap("", "abc") == 0
