"""What only the in-process store promises: its bounds."""

import pytest

from bundle.features.history import Interaction, UserContext
from service.context.memory import MemoryContextStore
from service.context.store import StoreLimits
from service.errors import UnknownRecommendationError

CLICKS = [Interaction("i1", "click", 1.5)]


async def test_it_forgets_the_least_recently_used_user() -> None:
    store = MemoryContextStore(StoreLimits(60, 60, 5), max_users=2, max_recommendations=10)
    await store.replace("a", UserContext())
    await store.replace("b", UserContext())
    await store.read("a")
    await store.replace("c", UserContext())
    assert [await store.read(user) is not None for user in "abc"] == [True, False, True]


async def test_it_bounds_recommendations() -> None:
    store = MemoryContextStore(StoreLimits(60, 60, 5), max_users=2, max_recommendations=2)
    for made in ("r1", "r2", "r3"):
        await store.recommend(made, "u")
    with pytest.raises(UnknownRecommendationError):
        await store.append("r1", CLICKS)
    assert await store.append("r2", CLICKS) == 1
