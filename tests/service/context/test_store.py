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
from service.context.store import Appended, ContextStore, Event, StoreLimits
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
            store = MemoryContextStore(
                given, max_users=100, max_bytes=10**6, max_recommendations=1000, clock=self._clock
            )
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


def events(*interactions: Interaction) -> list[Event]:
    return [Event(interaction) for interaction in interactions]


async def recommended(store: ContextStore, user_id: str) -> str:
    """The id of a recommendation."""
    made = (await store.recommend(user_id, 60)).id
    assert made is not None
    return made


async def context(store: ContextStore, user_id: str) -> UserContext | None:
    """As a rerank sees it."""
    return (await store.recommend(user_id, 60)).context


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


IDS = ["}{", "a:b", "ü/ \n", "{x}", "x", "x\n", "\nx", "%0A", "\x00", "\ufffd", "é", "e\u0301", "é ", "X"]


async def test_any_user_id_is_its_own(open_store: Stores) -> None:
    store = open_store()
    for number, user_id in enumerate(IDS):
        made = await recommended(store, user_id)
        await store.append(made, events(*clicks(str(number))))
    for number, user_id in enumerate(IDS):
        assert await store.read(user_id) == UserContext({}, clicks(str(number)))
        await store.forget(user_id)
        assert await store.read(user_id) is None


async def test_a_recommendation_reads_its_user(open_store: Stores) -> None:
    store = open_store()
    await store.replace("u", KNOWN)
    assert await context(store, "u") == KNOWN
    assert await context(store, "stranger") is None


async def test_events_are_appended_in_order_and_seen_at_once(open_store: Stores) -> None:
    store = open_store()
    await store.replace("u", KNOWN)
    made = await recommended(store, "u")
    added = [Interaction("i8", "impression"), *clicks("i9\n")]
    assert await store.append(made, events(*added)) == Appended(2, {}, "u")
    assert await context(store, "u") == UserContext(KNOWN.profile, (*KNOWN.history, *added))


async def test_an_event_keeps_the_features_of_its_item(open_store: Stores) -> None:
    store = open_store()
    told = Interaction("new", "click", 5.0, {"price": 3.5, "genres": ["drama"], "embedding": [1.0, 2.0]})
    await store.replace("u", UserContext({"a": 1}, (Interaction("i1", "click", 4.0),)))
    await store.add("u", events(told, Interaction("i2", "click")))
    known = await context(store, "u")
    assert known == UserContext({"a": 1}, (Interaction("i1", "click", 4.0), told, Interaction("i2", "click")))


async def test_events_of_a_stranger_make_a_context(open_store: Stores) -> None:
    store = open_store()
    await store.append(await recommended(store, "u"), events(*clicks("i1")))
    assert await store.read("u") == UserContext({}, clicks("i1"))


@pytest.mark.parametrize("unknown", ["never made", "0" * 48, "0" * 32, ""])
async def test_an_unknown_recommendation_is_an_error(open_store: Stores, unknown: str) -> None:
    with pytest.raises(UnknownRecommendationError):
        await open_store().append(unknown, events(*clicks("i1")))


async def test_an_id_that_was_altered_is_unknown(open_store: Stores) -> None:
    store = open_store()
    made = await recommended(store, "u")
    for place in range(len(made)):
        altered = f"{made[:place]}{(int(made[place], 16) + 1) % 16:x}{made[place + 1 :]}"
        with pytest.raises(UnknownRecommendationError):
            await store.append(altered, events(*clicks("i1")))
    assert await store.read("u") is None


async def test_history_is_bounded_and_the_newest_stay(open_store: Stores) -> None:
    store = open_store(max_history=3)
    await store.replace("u", UserContext({}, clicks("i1", "i2", "i3", "i4")))
    assert await context(store, "u") == UserContext({}, clicks("i2", "i3", "i4"))
    await store.append(await recommended(store, "u"), events(*clicks("i5", "i6")))
    assert await store.read("u") == UserContext({}, clicks("i4", "i5", "i6"))


async def test_history_is_bounded_in_bytes(open_store: Stores) -> None:
    """An event takes `["iiiiiiiiii","click",1.5]` and a line feed, 27 bytes."""
    store = open_store(max_history=10, max_history_bytes=3 * 27)
    await store.replace("u", UserContext({"a": 1}, clicks(*(str(n) * 10 for n in range(6)))))
    assert await store.read("u") == UserContext({"a": 1}, clicks("3" * 10, "4" * 10, "5" * 10))
    await store.append(await recommended(store, "u"), events(*clicks("6" * 10, "7" * 11)))
    assert await store.read("u") == UserContext({"a": 1}, clicks("6" * 10, "7" * 11))
    await store.append(await recommended(store, "u"), events(*clicks("8" * 100)))
    assert await store.read("u") == UserContext({"a": 1}), "the newest has no room"


async def test_concurrent_appends_lose_nothing(open_store: Stores) -> None:
    store = open_store(max_history=200)
    made = await recommended(store, "u")
    await asyncio.gather(*(store.append(made, events(*clicks(f"a{n}", f"b{n}"))) for n in range(50)))
    kept = await store.read("u")
    assert kept is not None
    items = [event.item_id for event in kept.history]
    assert sorted(items) == sorted([f"{part}{n}" for n in range(50) for part in "ab"])
    assert all(items[items.index(f"a{n}") + 1] == f"b{n}" for n in range(50)), "an append was torn"


async def test_an_event_with_an_id_counts_once(open_store: Stores) -> None:
    store = open_store()
    one, other = await recommended(store, "u"), await recommended(store, "u")
    (click, view) = clicks("i1", "i2")
    sent = [Event(click, "e1"), Event(view, "e\n2"), Event(click, "e1"), Event(click)]
    assert await store.append(one, sent) == Appended(3, {2: "duplicate"}, "u")
    assert await store.append(one, sent) == Appended(1, dict.fromkeys(range(3), "duplicate"), "u")
    assert await store.append(other, sent[:2]) == Appended(0, {0: "duplicate", 1: "duplicate"}, "u"), (
        "of a user, not of a list"
    )
    assert await store.read("u") == UserContext({}, (click, view, click, click))
    stranger = await recommended(store, "v")
    assert await store.append(stranger, sent[:1]) == Appended(1, {}, "v")


async def test_events_on_other_items_are_not_of_the_list(open_store: Stores) -> None:
    store = open_store(max_listed_items=3)
    made = (await store.recommend("ü\n", 60, ["i1", "i2\n", "é"])).id
    assert made is not None
    sent = [
        Event(event, "e" + event.item_id) for event in clicks("i3", "i1", "e\u0301", "i2\n", "i1", "é", "i2")
    ]
    answer = await store.append(made, sent)
    others = dict.fromkeys((0, 2, 6), "not_in_list")
    assert answer == Appended(3, {**others, 4: "duplicate"}, "ü\n")
    assert [*answer.ignored] == [0, 2, 4, 6]
    assert await store.read("ü\n") == UserContext({}, clicks("i1", "i2\n", "é"))
    assert await store.append(made, sent[:1]) == Appended(0, {0: "not_in_list"}, "ü\n")
    longer = (await store.recommend("u", 60, ["i1", "i2", "i3", "i4"])).id
    assert longer is not None
    assert await store.append(longer, sent[:1]) == Appended(1, {}, "u"), "nothing is kept of longer lists"


async def test_events_outside_any_list(open_store: Stores) -> None:
    store = open_store()
    sent = [Event(event, "e" + event.item_id) for event in clicks("i3", "i4", "i3")]
    assert await store.add("u", sent) == Appended(2, {2: "duplicate"}, "u")
    assert await context(store, "u") == UserContext({}, clicks("i3", "i4"))
    made = await recommended(store, "u")
    assert await store.append(made, sent[:1]) == Appended(0, {0: "duplicate"}, "u"), "of the user, wherever"
    assert await store.add("u", events(*clicks("i5"))) == Appended(1, {}, "u")
    assert await store.read("u") == UserContext({}, clicks("i3", "i4", "i5"))
    await store.forget("u")
    assert await store.read("u") is None
    assert await store.add("u", sent[:1]) == Appended(1, {}, "u"), "forgotten with what was known"
    with pytest.raises(UnknownRecommendationError):
        await store.append(made, sent[1:2])


async def test_concurrent_repetitions_count_once(open_store: Stores) -> None:
    store = open_store()
    made = await recommended(store, "u")
    answers = await asyncio.gather(*(store.append(made, [Event(*clicks("i1"), "e")]) for _ in range(10)))
    assert sum(answer.applied for answer in answers) == 1
    assert await store.read("u") == UserContext({}, clicks("i1"))


async def test_the_latest_event_ids_are_remembered(open_store: Stores) -> None:
    store = open_store(max_event_ids=2, recommendation_ttl_s=60)
    made = await recommended(store, "u")
    for event_id in "abc":
        await store.append(made, [Event(*clicks("i1"), event_id)])
        await asyncio.sleep(0.002)  # by time of receipt, in milliseconds
    assert (await store.append(made, [Event(*clicks("i1"), "b"), Event(*clicks("i1"), "c")])).applied == 0
    assert (await store.append(made, [Event(*clicks("i1"), "a")])).applied == 1
    open_store.pass_time(60)
    assert (await store.append(await recommended(store, "u"), [Event(*clicks("i1"), "c")])).applied == 1


async def test_contexts_expire_after_their_last_write(open_store: Stores) -> None:
    store = open_store(context_ttl_s=60, recommendation_ttl_s=600)
    await store.replace("u", KNOWN)
    made = await recommended(store, "u")
    open_store.pass_time(40)
    await store.append(made, events(*clicks("i3")))
    open_store.pass_time(40)
    assert await store.read("u") == UserContext(KNOWN.profile, (*KNOWN.history, *clicks("i3")))
    assert await context(store, "u") is not None, "no write"
    open_store.pass_time(20)
    assert await store.read("u") is None
    assert await context(store, "u") is None


async def test_recommendations_expire(open_store: Stores) -> None:
    store = open_store(recommendation_ttl_s=60, context_ttl_s=600)
    made = await recommended(store, "u")
    open_store.pass_time(40)
    later = await recommended(store, "u")
    assert (await store.append(made, events(*clicks("i1")))).applied == 1
    open_store.pass_time(20)
    with pytest.raises(UnknownRecommendationError):
        await store.append(made, events(*clicks("i2")))
    assert (await store.append(later, events(*clicks("i2")))).applied == 1


async def test_forgetting_is_whole(open_store: Stores) -> None:
    store = open_store()
    await store.replace("u", KNOWN)
    before, other = await recommended(store, "u"), await recommended(store, "v")
    await store.append(before, [Event(*clicks("i1"), "e")])
    await store.forget("u")
    await store.forget("nobody")
    assert await store.read("u") is None
    with pytest.raises(UnknownRecommendationError):
        await store.append(before, events(*clicks("i1")))
    assert await store.read("u") is None
    await store.append(other, events(*clicks("i1")))
    assert await store.read("v") is not None


async def test_a_forgotten_person_may_come_back(open_store: Stores) -> None:
    store = open_store()
    before = await recommended(store, "u")
    await store.append(before, [Event(*clicks("i1"), "e")])
    await store.forget("u")
    after = await recommended(store, "u")
    with pytest.raises(UnknownRecommendationError):
        await store.append(before, events(*clicks("i2")))
    assert (await store.append(after, [Event(*clicks("i1"), "e")])).applied == 1, "its event is unknown too"
    assert await store.read("u") == UserContext({}, clicks("i1"))
