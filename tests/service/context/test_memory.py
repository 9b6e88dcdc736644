"""What only the in-process store promises: its bounds, and forgetting at once however much is kept."""

import gc
import tracemalloc
from time import perf_counter
from typing import Any

import pytest

from bundle.features.history import Interaction, UserContext
from service.context.memory import MemoryContextStore
from service.context.store import Event, StoreLimits
from service.errors import UnknownRecommendationError

CLICKS = [Event(Interaction("i1", "click", 1.5))]


def memory(**bounds: Any) -> MemoryContextStore:
    given = {"max_users": 10**6, "max_bytes": 10**9, "max_recommendations": 10**6, **bounds}
    return MemoryContextStore(StoreLimits(60, 60, 200), **given)


async def recommended(store: MemoryContextStore, user_id: str) -> str:
    return str((await store.recommend(user_id, 1)).id)


async def test_it_forgets_the_least_recently_used_user() -> None:
    store = memory(max_users=2)
    await store.replace("a", UserContext())
    await store.replace("b", UserContext())
    await store.read("a")
    await store.replace("c", UserContext())
    assert [await store.read(user) is not None for user in "abc"] == [True, False, True]


async def test_strangers_push_nobody_out() -> None:
    store = memory(max_users=1)
    await store.replace("a", UserContext())
    for number in range(10):
        await store.recommend(f"s{number}", 1)
    assert await store.read("a") is not None


async def test_it_bounds_recommendations() -> None:
    store = memory(max_recommendations=2)
    made = [await recommended(store, "u") for _ in range(3)]
    with pytest.raises(UnknownRecommendationError):
        await store.append(made[0], CLICKS)
    assert (await store.append(made[1], CLICKS)).applied == 1


def long(number: int) -> UserContext:
    events = (
        Interaction(f"item {number} {n}" + "é" * 100, "click" * (n % 2 + 1), n + 0.5) for n in range(200)
    )
    return UserContext({f"name{number}{n}": ["x" * 50, n / 7] for n in range(20)}, tuple(events))


async def test_it_bounds_bytes() -> None:
    """As Python counts what it holds, and not less than half of the bound."""
    bound = 4_000_000
    store = memory(max_bytes=bound)
    tracemalloc.start()
    try:
        for number in range(200):
            await store.replace(f"u{number}", long(number))
        made = await recommended(store, "u199")
        await store.append(made, [Event(CLICKS[0].interaction, f"e{number}") for number in range(300)])
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert bound / 2 < held < bound
    assert await store.read("u0") is None
    assert await store.read("u199") is not None


async def test_one_user_beyond_the_bound_is_not_kept() -> None:
    store = memory(max_bytes=10_000)
    await store.replace("small", UserContext())
    await store.replace("large", long(0))
    assert await store.read("large") is None


async def test_forgetting_takes_no_longer_with_more_recommendations() -> None:
    store = memory()
    for number in range(30_000):
        await store.recommend(f"u{number % 100}", 1)

    async def forgetting(user_id: str) -> float:
        started = perf_counter()
        await store.forget(user_id)
        return perf_counter() - started

    assert min([await forgetting(f"u{number}") for number in range(20)]) < 0.0005


async def test_nothing_names_a_forgotten_person() -> None:
    store = memory()
    made = await recommended(store, "somebody")
    await store.append(made, CLICKS)
    await store.forget("somebody")
    assert "somebody" not in repr(vars(store))
