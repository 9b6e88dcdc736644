"""One behaviour, two stores: everything here holds of the in-process store and of a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from steered_clock import SteeredClock

from bundle.features.history import Interaction, UserContext
from launch.redis import RedisServer
from service.context.memory import MemoryContextStore
from service.context.redis import RedisContextStore
from service.context.store import ContextStore, StoreLimits
from service.errors import UnknownRecommendationError
from service.settings import Settings


class Stores:
    """Opens stores that keep what they know in one place, and lets time pass for what is kept there."""

    def __init__(self, server: RedisServer | None) -> None:
        self._server, self._clock = server, SteeredClock()
        self.opened: list[ContextStore] = []

    def __call__(self, **limits: Any) -> ContextStore:
        given = StoreLimits(**{"context_ttl_s": 60, "recommendation_ttl_s": 60, "max_history": 5, **limits})
        store: ContextStore
        if self._server is None:
            store = MemoryContextStore(given, max_users=100, max_recommendations=1000, clock=self._clock)
        else:
            patient = {
                f"redis_{wait}_ms": 60_000 for wait in ("socket_timeout", "connect_timeout", "pool_wait")
            }
            store = RedisContextStore.from_settings(
                Settings(bundle="unused", redis_url=self._server.url, **patient), given
            )
        self.opened.append(store)
        return store

    def pass_time(self, seconds: int) -> None:
        """Take so much off what is left of everything's time to live."""
        self._clock.now += seconds
        if self._server is not None:
            redis = self._server.client
            for key in redis.keys("*"):
                redis.pexpire(key, redis.pttl(key) - 1000 * seconds)  # at once, if none is left


@pytest.fixture(params=["memory", "redis"])
async def open_store(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    stores = Stores(request.getfixturevalue("redis_server") if request.param == "redis" else None)
    yield stores
    for store in stores.opened:
        await store.close()


def clicks(*items: str) -> tuple[Interaction, ...]:
    return tuple(Interaction(item, "click", 1.5) for item in items)


KNOWN = UserContext({"age": 3, "tags": ["a", "b"], "taste": [0.5, 1.0]}, clicks("i1", "i2"))


async def test_replaces_and_reads(open_store: Stores) -> None:
    store = open_store()
    assert await store.read("u") is None
    await store.replace("u", KNOWN)
    assert await store.read("u") == KNOWN
    await store.replace("u", UserContext({}, clicks("i3")))
    assert await store.read("u") == UserContext({}, clicks("i3"))


async def test_an_empty_context_is_known(open_store: Stores) -> None:
    store = open_store()
    await store.replace("u", UserContext())
    assert await store.read("u") == UserContext()


@pytest.mark.parametrize("user_id", ["}{", "a:b", "ü/ \n", "{x}"])
async def test_any_user_id_is_its_own(open_store: Stores, user_id: str) -> None:
    store = open_store()
    await store.replace(user_id, KNOWN)
    assert await store.read(user_id) == KNOWN
    assert await store.read("x") is None


async def test_a_recommendation_reads_its_user(open_store: Stores) -> None:
    store = open_store()
    await store.replace("u", KNOWN)
    assert await store.recommend("r1", "u") == KNOWN
    assert await store.recommend("r2", "stranger") is None
    assert await store.recommend("r3", None) is None


async def test_events_are_appended_in_order_and_seen_at_once(open_store: Stores) -> None:
    store = open_store()
    await store.replace("u", KNOWN)
    await store.recommend("r", "u")
    assert await store.append("r", [Interaction("i8", "impression"), *clicks("i9")]) == 2
    context = await store.recommend("later", "u")
    assert context is not None
    assert context.profile == KNOWN.profile
    assert context.history == (*KNOWN.history, Interaction("i8", "impression"), *clicks("i9"))


async def test_events_of_a_stranger_make_a_context(open_store: Stores) -> None:
    store = open_store()
    await store.recommend("r", "u")
    await store.append("r", clicks("i1"))
    assert await store.read("u") == UserContext({}, clicks("i1"))


async def test_events_of_nobody_are_not_applied(open_store: Stores) -> None:
    store = open_store()
    await store.recommend("r", None)
    assert await store.append("r", clicks("i1")) == 0


async def test_an_unknown_recommendation_is_an_error(open_store: Stores) -> None:
    with pytest.raises(UnknownRecommendationError):
        await open_store().append("never made", clicks("i1"))


async def test_history_is_bounded_and_the_newest_stay(open_store: Stores) -> None:
    store = open_store(max_history=3)
    await store.replace("u", UserContext({}, clicks("i1", "i2", "i3", "i4")))
    context = await store.recommend("r", "u")
    assert context is not None
    assert context.history == clicks("i2", "i3", "i4")
    await store.append("r", clicks("i5", "i6"))
    context = await store.read("u")
    assert context is not None
    assert context.history == clicks("i4", "i5", "i6")


async def test_concurrent_appends_lose_nothing(open_store: Stores) -> None:
    store = open_store(max_history=200)
    await store.recommend("r", "u")
    await asyncio.gather(*(store.append("r", clicks(f"a{n}", f"b{n}")) for n in range(50)))
    context = await store.read("u")
    assert context is not None
    items = [event.item_id for event in context.history]
    assert sorted(items) == sorted([f"{part}{n}" for n in range(50) for part in "ab"])
    assert all(items[items.index(f"a{n}") + 1] == f"b{n}" for n in range(50)), "an append was torn"


async def test_contexts_expire_after_their_last_write(open_store: Stores) -> None:
    store = open_store(context_ttl_s=60, recommendation_ttl_s=600)
    await store.replace("u", KNOWN)
    await store.recommend("r", "u")
    open_store.pass_time(40)
    await store.append("r", clicks("i3"))
    open_store.pass_time(40)
    assert await store.read("u") == UserContext(KNOWN.profile, (*KNOWN.history, *clicks("i3")))
    assert await store.recommend("r2", "u") is not None, "no write"
    open_store.pass_time(20)
    assert await store.read("u") is None
    assert await store.recommend("r3", "u") is None


async def test_recommendations_expire(open_store: Stores) -> None:
    store = open_store(recommendation_ttl_s=60, context_ttl_s=600)
    await store.recommend("r", "u")
    open_store.pass_time(40)
    assert await store.append("r", clicks("i1")) == 1
    open_store.pass_time(20)
    with pytest.raises(UnknownRecommendationError):
        await store.append("r", clicks("i2"))


async def test_forgetting_is_whole(open_store: Stores) -> None:
    store = open_store()
    await store.replace("u", KNOWN)
    await store.recommend("before", "u")
    await store.recommend("other", "v")
    await store.forget("u")
    await store.forget("nobody")
    assert await store.read("u") is None
    with pytest.raises(UnknownRecommendationError):
        await store.append("before", clicks("i1"))
    assert await store.read("u") is None
    await store.append("other", clicks("i1"))
    assert await store.read("v") is not None


async def test_a_forgotten_person_may_come_back(open_store: Stores) -> None:
    store = open_store()
    await store.recommend("before", "u")
    await store.forget("u")
    await store.recommend("after", "u")
    assert await store.append("after", clicks("i1")) == 1
    assert await store.read("u") == UserContext({}, clicks("i1"))
