"""What only the Redis store promises: one round trip, keys that suit a cluster, giving up quickly, and that
what is wrong with one user, or with writes, is nobody else's loss.

Long, because all of it shares one server and ways to put it out of order.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from rerank_client import Serve
from steered_clock import SteeredClock

from bundle.features.history import Interaction, UserContext
from launch.redis import RedisServer
from service.context.redis import RedisContextStore
from service.context.store import Event, StoreLimits
from service.errors import StoreUnavailableError, UnknownRecommendationError
from service.settings import Settings

LIMITS = StoreLimits(context_ttl_s=60, recommendation_ttl_s=30, max_history=5)

PATIENT = {f"redis_{wait}_ms": 60_000 for wait in ("socket_timeout", "connect_timeout", "pool_wait")}
"""A busy machine fails no test."""

BREAKER = {"redis_breaker_calls": 6, "redis_breaker_error_rate": 0.5, "redis_breaker_reset_s": 10}

CLICK = Interaction("i1", "click")
KNOWN = UserContext({"a": 1}, (CLICK,))


def open_store(
    server: RedisServer, clock: SteeredClock, report: Any = lambda fault: None, **settings: Any
) -> RedisContextStore:
    given = Settings(bundle="unused", redis_url=server.url, **{**BREAKER, **PATIENT, **settings})
    return RedisContextStore.from_settings(given, LIMITS, clock, report)


@pytest.fixture
def breakers_clock() -> SteeredClock:
    """Of the circuit breaker alone: Redis is waited for in real time."""
    return SteeredClock()


@pytest.fixture
def faults() -> Counter[str]:
    """What the store reported."""
    return Counter()


@pytest.fixture
async def store(
    redis_server: RedisServer, breakers_clock: SteeredClock, faults: Counter[str]
) -> AsyncIterator[RedisContextStore]:
    store = open_store(redis_server, breakers_clock, lambda fault: faults.update([fault]))
    yield store
    await store.close()


async def recommended(store: RedisContextStore, user_id: str = "u") -> str:
    made = (await store.recommend(user_id, 60)).id
    assert made is not None
    return made


async def test_a_rerank_is_one_round_trip(store: RedisContextStore, redis_server: RedisServer) -> None:
    await store.replace("u", KNOWN)
    await recommended(store)

    def reads() -> int:
        return int(redis_server.client.info("stats")["total_reads_processed"])

    before = reads()
    assert (await store.recommend("u", 60)).context == KNOWN
    assert reads() - before == 1 + 1, "packets the server read: the pipeline, and our own INFO"


async def test_every_key_expires_and_a_users_keys_share_a_slot(
    store: RedisContextStore, redis_server: RedisServer
) -> None:
    await store.append(await recommended(store, "u}{"), [Event(CLICK, "e")])
    keys = [key.decode() for key in redis_server.client.keys("*")]
    assert len(keys) == 4
    assert all(0 < redis_server.client.pttl(key) <= 60_000 for key in keys)
    assert [key[key.index("{") + 1 : key.index("}")] for key in keys if "{" in key] == ["u%7D%7B"] * 3


def everything(server: RedisServer) -> bytes:
    """All keys and values."""
    read = {
        b"string": lambda key: server.client.get(key),
        b"zset": lambda key: b"".join(server.client.zrange(key, 0, -1)),
    }
    keys = server.client.keys("*")
    return b"\n".join((*keys, *(read[server.client.type(key)](key) for key in keys)))


async def test_nothing_names_a_forgotten_person(store: RedisContextStore, redis_server: RedisServer) -> None:
    for _ in range(3):
        await store.append(await recommended(store, "somebody@x"), [Event(CLICK, "somebody@x bought")])
    await recommended(store, "nobody else")
    assert everything(redis_server).count(b"somebody%40x") == 3, "but recommendations do not, even now"
    assert b"somebody@x" not in everything(redis_server)
    await store.forget("somebody@x")
    assert b"somebody" not in everything(redis_server)
    assert redis_server.client.dbsize() == 3 + 2, "recommendations, and the other's"


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


async def test_a_hung_redis_is_given_up_at_the_timeout_and_then_left_alone(
    redis_server: RedisServer, breakers_clock: SteeredClock
) -> None:
    store = open_store(redis_server, breakers_clock, redis_socket_timeout_ms=30, redis_connect_timeout_ms=30)
    await store.replace("u", KNOWN)
    with redis_server.hung():
        async with asyncio.timeout(60):
            for _ in range(3):
                with pytest.raises(StoreUnavailableError, match="does not answer"):
                    await store.read("u")
            with pytest.raises(StoreUnavailableError, match="left alone"):
                await store.read("u")
    await breakers_clock.advance(10)
    assert await store.read("u") == KNOWN, "and no answer to an earlier question"
    await store.close()


async def test_a_call_whose_caller_has_left_is_judged_all_the_same(
    redis_server: RedisServer, breakers_clock: SteeredClock
) -> None:
    store = open_store(redis_server, breakers_clock, redis_socket_timeout_ms=60, redis_connect_timeout_ms=60)
    await store.replace("u", KNOWN)
    with redis_server.hung():
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="no time is left"):
                await store.recommend("u", 0.01)
        await store._wire.close()
        with pytest.raises(StoreUnavailableError, match="left alone"):
            await store.recommend("u", 0.01)
    await store.close()


async def test_a_stalled_event_loop_is_no_fault_of_redis(redis_server: RedisServer) -> None:
    """Stalled for five times the timeout while Redis answers: every answer is there, no call is a failure."""
    store = open_store(redis_server, SteeredClock(), redis_socket_timeout_ms=20, redis_connect_timeout_ms=50)
    await store.replace("u", KNOWN)
    await asyncio.gather(*(store.recommend("u", 60) for _ in range(4)))
    for _ in range(8):
        asked = [asyncio.create_task(store.recommend("u", 60)) for _ in range(4)]
        for _ in range(random.randrange(8)):
            await asyncio.sleep(0)
        sleep(0.1)
        assert [(await one).context for one in asked] == [KNOWN] * 4
    await store.close()


GARBAGE: dict[str, Any] = {
    "no JSON": "}",
    "no profile": '["i1","click",null]',
    "no event": '{}\n{"i1":1}',
    "an event of numbers": "{}\n[1,2,3]",
    "a profile of profiles": '{"a":{"b":1}}',
    "no UTF-8": b'{"a":"\xff"}',
    "half": '{"a":1}\n["i1","cl',
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_what_cannot_be_read_is_that_users_loss(
    store: RedisContextStore, redis_server: RedisServer, faults: Counter[str], garbage: str
) -> None:
    await store.replace("other", KNOWN)
    redis_server.client.set("rerank:{u}:context", GARBAGE[garbage], ex=60)
    made = await store.recommend("u", 60)
    assert made.context is None
    assert faults == {"corrupt": 1}
    assert await store.read("other") == KNOWN
    assert made.id is not None
    assert (await store.append(made.id, [Event(CLICK)])).applied == 1
    assert await store.read("u") == UserContext({}, (CLICK,)), "sound again"


async def test_keys_of_another_type_are_that_users_loss(
    store: RedisContextStore, redis_server: RedisServer, faults: Counter[str]
) -> None:
    for part in ("context", "token", "events"):
        redis_server.client.rpush(f"rerank:{{u}}:{part}", "no string")
        redis_server.client.expire(f"rerank:{{u}}:{part}", 60)
    made = await recommended(store)
    assert faults == {"corrupt": 1}
    assert (await store.append(made, [Event(CLICK, "e"), Event(CLICK, "e")])).applied == 1
    assert await store.read("u") == UserContext({}, (CLICK,))
    redis_server.client.delete("rerank:{u}:token")
    redis_server.client.rpush("rerank:{u}:token", "no string")
    with pytest.raises(UnknownRecommendationError):
        await store.append(made, [Event(CLICK)])


async def test_a_huge_user_is_not_even_read(
    store: RedisContextStore, redis_server: RedisServer, faults: Counter[str]
) -> None:
    redis_server.client.set("rerank:{u}:context", b"x" * 50_000_000, ex=60)

    def sent() -> int:
        return int(redis_server.client.info("stats")["total_net_output_bytes"])

    before = sent()
    assert (await store.recommend("u", 60)).context is None
    assert await store.read("u") is None
    assert sent() - before < 50_000
    assert faults == {"too_large": 2}
    await store.append(await recommended(store), [Event(CLICK)])
    assert await store.read("u") == UserContext({}, (CLICK,))


@pytest.fixture(scope="module")
def unwritable_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder: Path = tmp_path_factory.mktemp("gone")
    with RedisServer("--dir", str(folder)) as server:
        folder.rmdir()
        yield server


@pytest.fixture(params=["READONLY", "OOM", "MISCONF"])
def refusing(request: pytest.FixtureRequest) -> Iterator[tuple[RedisServer, Any, Any]]:
    """A server, how to make it refuse writes, and how to make it take them again."""
    name = "unwritable_disk" if request.param == "MISCONF" else "redis_process"
    server: RedisServer = request.getfixturevalue(name)
    server.start()
    server.client.flushall()
    set_to = server.client.config_set

    def fail_to_save() -> None:
        set_to("save", "3600 1000000")
        server.client.bgsave()
        while server.client.info("persistence")["rdb_bgsave_in_progress"]:
            sleep(0.01)

    refuse, take = {
        "READONLY": (
            lambda: server.client.replicaof("127.0.0.1", 1),
            lambda: server.client.replicaof("NO", "ONE"),
        ),
        "OOM": (lambda: set_to("maxmemory", 1), lambda: set_to("maxmemory", 0)),
        "MISCONF": (fail_to_save, lambda: set_to("save", "")),
    }[request.param]
    yield server, refuse, take
    take()


async def test_refused_writes_do_not_cost_the_read(
    refusing: tuple[RedisServer, Any, Any], faults: Counter[str]
) -> None:
    server, refuse, take = refusing
    store = open_store(server, SteeredClock(), lambda fault: faults.update([fault]))
    await store.replace("u", KNOWN)
    made = await recommended(store)
    refuse()
    for _ in range(10):
        assert await store.recommend("u", 60) == (None, KNOWN)
        assert await store.recommend("stranger", 60) == (None, None)
    assert faults == {"refused_write": 20}
    with pytest.raises(StoreUnavailableError):
        await store.append(made, [Event(CLICK, "e")])
    assert await store.read("u") == KNOWN
    take()
    assert (await store.append(made, [Event(CLICK, "e")])).applied == 1, "nothing of it was written"
    assert await store.read("u") == UserContext({"a": 1}, (CLICK, CLICK))
    await store.close()


async def test_a_full_redis_forgets(store: RedisContextStore, redis_server: RedisServer) -> None:
    await store.replace("u", KNOWN)
    made = await recommended(store)
    await store.append(made, [Event(CLICK, "e")])
    redis_server.client.config_set("maxmemory", 1)
    try:
        await store.forget("u")
    finally:
        redis_server.client.config_set("maxmemory", 0)
    assert await store.read("u") is None
    with pytest.raises(UnknownRecommendationError):
        await store.append(made, [Event(CLICK, "e")])
    assert await store.read("u") is None


async def test_nobody_comes_back_whatever_is_evicted(
    store: RedisContextStore, redis_server: RedisServer
) -> None:
    """300 people are forgotten, and clicks on their lists come late, while others fill a small Redis."""
    people, client = [f"person {number}" for number in range(300)], redis_server.client
    lists = {person: [await recommended(store, person) for _ in range(3)] for person in people}
    for person in people:
        await store.append(lists[person][0], [Event(CLICK, person)])
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 50_000)
    try:
        late: Counter[str] = Counter()
        random.Random(7).shuffle(people)
        for person in people:
            await store.forget(person)
            for number in range(2):
                await store.replace(f"other {person} {number}", UserContext({"a": "x" * 1500}))
        evicted = int(client.info("stats")["evicted_keys"])
        for made in [made for person in people for made in lists[person]]:
            try:
                await store.append(made, [Event(CLICK)])
                late["applied"] += 1
            except UnknownRecommendationError:
                late["unknown"] += 1
        assert evicted > 300, "it was full"
        assert late == {"unknown": 900}
        assert [await store.read(person) for person in people] == [None] * 300
        assert not client.keys("rerank:{person*")
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


async def test_what_is_kept_is_forgotten_whichever_key_is_lost_first(
    store: RedisContextStore, redis_server: RedisServer
) -> None:
    """Any set of a person's keys is lost before or after: late clicks do not bring the person back."""
    for lost in range(8):
        for after in (False, True):
            user_id = f"u{lost}{after}"
            made = await recommended(store, user_id)
            await store.append(made, [Event(CLICK, "e")])
            names = [part for bit, part in enumerate(("context", "token", "events")) if lost >> bit & 1]
            keys = [f"rerank:{{{user_id}}}:{part}" for part in names]
            if not after and keys:
                redis_server.client.delete(*keys)
                await recommended(store, user_id)
            await store.forget(user_id)
            if after:
                await recommended(store, user_id)
                redis_server.client.delete("none", *keys)
            with pytest.raises(UnknownRecommendationError):
                await store.append(made, [Event(CLICK)])
            assert await store.read(user_id) is None


async def test_dead_redis_means_an_anonymous_user(serve: Serve, redis_server: RedisServer) -> None:
    clock = SteeredClock()
    async with serve(clock, redis_url=redis_server.url, redis_breaker_reset_s=10, **PATIENT) as client:
        alive = (await client.rerank(["i1", "i2"], user_id="u")).json()
        assert alive["context"] == "miss"
        redis_server.stop()
        for _ in range(12):
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
        assert await client.metric('rerank_context_lookups_total{result="unavailable"}') == 12
        assert await client.metric("rerank_context_store_up") == 0
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


async def test_a_slow_store_counts_against_the_deadline(serve: Serve, redis_server: RedisServer) -> None:
    async with serve(redis_url=redis_server.url, **PATIENT) as client:
        await client.rerank(["i1"], user_id="u")
        with redis_server.hung():
            answer = (await client.rerank(["i1"], user_id="u", deadline_ms=30)).json()
        assert (answer["fallback"], answer["recommendation_id"], answer["context"]) == (
            "deadline",
            None,
            None,
        )
        assert await client.metric('rerank_deadline_exceeded_total{stage="context"}') == 1
        assert await client.metric('rerank_context_lookups_total{result="timeout"}') == 1


async def test_what_was_never_asked_is_not_held_against_redis(
    serve: Serve, redis_server: RedisServer
) -> None:
    settings = {**PATIENT, "redis_max_connections": 1, "redis_pool_wait_ms": 1}
    async with serve(redis_url=redis_server.url, **settings) as client:
        await client.rerank(["i1"], user_id="u")
        with redis_server.hung():
            waiting = asyncio.create_task(client.rerank(["i1"], user_id="u"))
            await asyncio.sleep(0.05)
            asked = [(await client.rerank(["i1"], user_id="u")).json()["context"] for _ in range(30)]
        await waiting
        assert asked == ["unavailable"] * 30
        assert await client.metric('rerank_context_lookups_total{result="not_asked"}') == 30
        assert await client.metric('rerank_context_lookups_total{result="unavailable"}') == 0
        assert await client.metric("rerank_context_store_up") == 1


async def test_a_full_redis_costs_a_rerank_its_id_only(serve: Serve, redis_server: RedisServer) -> None:
    async with serve(redis_url=redis_server.url, **PATIENT) as client:
        await client.put("/v1/users/u/context", json={"history": [{"item_id": "i1", "type": "click"}]})
        redis_server.client.config_set("maxmemory", 1)
        try:
            answer = (await client.rerank(["i1", "i2"], user_id="u", strict=True)).json()
            assert (await client.delete("/v1/users/u/context")).status_code == 204
        finally:
            redis_server.client.config_set("maxmemory", 0)
        assert (answer["context"], answer["recommendation_id"], answer["fallback"]) == ("hit", None, None)
        assert await client.metric('rerank_context_faults_total{reason="refused_write"}') == 1
        assert (await client.get("/v1/users/u/context")).status_code == 404


async def test_what_cannot_be_read_is_no_fallback(serve: Serve, redis_server: RedisServer) -> None:
    async with serve(redis_url=redis_server.url, **PATIENT) as client:
        redis_server.client.set("rerank:{u}:context", "{", ex=60)
        answer = (await client.rerank(["i1", "i2"], user_id="u", strict=True)).json()
        assert (answer["context"], answer["fallback"]) == ("miss", None)
        assert (await client.get("/v1/users/u/context")).status_code == 404
        assert await client.metric('rerank_context_faults_total{reason="corrupt"}') == 1


async def test_lists_of_nobody_leave_nothing(serve: Serve, redis_server: RedisServer) -> None:
    async with serve(redis_url=redis_server.url, **PATIENT) as client:
        made = (await client.rerank(["i1", "i2"])).json()["recommendation_id"]
        sent = {"recommendation_id": made, "events": [{"type": "click", "item_id": "i1"}]}
        answer = (await client.post("/v1/feedback", json=sent)).json()
        assert (answer["applied"], answer["ignored"]) == (0, {"anonymous": 1})
    assert redis_server.client.dbsize() == 0
