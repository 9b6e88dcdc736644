"""What only the Redis store promises: one round trip, keys that suit a cluster, giving up quickly."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rerank_client import Serve
from steered_clock import SteeredClock, turns

from bundle.features.history import Interaction, UserContext
from launch.redis import RedisServer
from service.context.redis import RedisContextStore
from service.context.store import StoreLimits
from service.errors import StoreUnavailableError
from service.settings import Settings

LIMITS = StoreLimits(context_ttl_s=60, recommendation_ttl_s=30, max_history=5)


PATIENT = {"redis_socket_timeout_ms": 60_000, "redis_connect_timeout_ms": 60_000}
"""A busy machine fails no test."""


def open_store(server: RedisServer, clock: SteeredClock, **settings: Any) -> RedisContextStore:
    given = {"redis_breaker_failures": 3, "redis_breaker_reset_s": 10, **PATIENT, **settings}
    return RedisContextStore.from_settings(
        Settings(bundle="unused", redis_url=server.url, **given), LIMITS, clock
    )


@pytest.fixture
def breakers_clock() -> SteeredClock:
    """Of the circuit breaker alone: Redis is waited for in real time."""
    return SteeredClock()


@pytest.fixture
async def store(redis_server: RedisServer, breakers_clock: SteeredClock) -> AsyncIterator[RedisContextStore]:
    store = open_store(redis_server, breakers_clock)
    yield store
    await store.close()


async def test_a_rerank_is_one_round_trip(store: RedisContextStore, redis_server: RedisServer) -> None:
    await store.replace("u", UserContext({"a": 1}, (Interaction("i1", "click"),)))
    await store.recommend("warm", "u")

    def reads() -> int:
        return int(redis_server.client.info("stats")["total_reads_processed"])

    before = reads()
    assert await store.recommend("r", "u") is not None
    assert reads() - before == 1 + 1, "packets the server read: the pipeline, and our own INFO"


async def test_every_key_expires_and_a_users_keys_share_a_slot(
    store: RedisContextStore, redis_server: RedisServer
) -> None:
    await store.replace("u}{", UserContext({"a": 1}, (Interaction("i1", "click"),)))
    await store.recommend("r", "u}{")
    await store.append("r", [Interaction("i2", "click")])
    await store.forget("v")
    keys = [key.decode() for key in redis_server.client.keys("*")]
    assert len(keys) == 4
    assert all(0 < redis_server.client.pttl(key) <= 60_000 for key in keys)
    tags = {key[key.index("{") + 1 : key.index("}")] for key in keys if "{" in key}
    assert tags == {"u%7D%7B", "v"}


async def test_the_breaker_opens_and_recovers(
    store: RedisContextStore, redis_server: RedisServer, breakers_clock: SteeredClock
) -> None:
    await store.replace("u", UserContext())
    redis_server.stop()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            await store.read("u")
    redis_server.start()
    with pytest.raises(StoreUnavailableError, match="left alone"):
        await store.read("u")
    await breakers_clock.advance(10)
    await store.replace("u", UserContext())
    assert await store.read("u") == UserContext()


async def test_a_hung_redis_is_given_up_at_the_timeout(
    redis_server: RedisServer, clock: SteeredClock
) -> None:
    store = open_store(redis_server, clock, redis_socket_timeout_ms=30)
    await store.read("u")
    with redis_server.hung():
        reading = asyncio.create_task(store.read("u"))
        await turns()
        await clock.advance(0.029)
        assert not reading.done()
        await clock.advance(0.001)
        assert reading.done()
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            await reading
    await store.close()


async def test_an_error_of_redis_is_no_outage(store: RedisContextStore, redis_server: RedisServer) -> None:
    redis_server.client.set("rerank:{u}:history", "not a list", ex=60)
    for _ in range(5):
        with pytest.raises(StoreUnavailableError, match="refused"):
            await store.read("u")
    assert await store.read("v") is None


async def test_dead_redis_means_an_anonymous_user(serve: Serve, redis_server: RedisServer) -> None:
    clock = SteeredClock()
    async with serve(clock, redis_url=redis_server.url, redis_breaker_reset_s=10, **PATIENT) as client:
        alive = (await client.rerank(["i1", "i2"], user_id="u")).json()
        assert alive["context"] == "miss"
        redis_server.stop()
        for _ in range(7):
            dead = await client.rerank(["i1", "i2"], user_id="u", strict=True)
            assert dead.status_code == 200
            assert dead.json()["context"] == "unavailable"
            assert dead.json()["recommendation_id"] is None
            assert dead.json()["fallback"] is None
            assert dead.json()["results"][0]["score"] is not None
        event = {"type": "click", "item_id": "i1"}
        sent = {"recommendation_id": alive["recommendation_id"], "events": [event]}
        refused = await client.post("/v1/feedback", json=sent)
        assert (refused.status_code, refused.json()["error_type"]) == (503, "unavailable")
        assert (await client.get("/v1/users/u/context")).status_code == 503
        assert await client.metric('rerank_context_lookups_total{result="unavailable"}') == 7
        redis_server.start()
        assert (await client.rerank(["i1"], user_id="u")).json()["context"] == "unavailable"
        clock.now += 10
        assert (await client.rerank(["i1"], user_id="u")).json()["context"] == "miss"


async def test_feedback_through_redis_is_seen_by_the_next_rerank(
    serve: Serve, redis_server: RedisServer
) -> None:
    redis = {"redis_url": redis_server.url, **PATIENT}
    async with serve(**redis) as writer, serve(**redis) as reader:
        first = (await writer.rerank(["i1", "i2"], user_id="u")).json()
        event = {"type": "click", "item_id": "i1"}
        sent = {"recommendation_id": first["recommendation_id"], "events": [event]}
        assert (await reader.post("/v1/feedback", json=sent)).status_code == 202
        assert (await writer.rerank(["i1", "i2"], user_id="u")).json()["context"] == "hit"
