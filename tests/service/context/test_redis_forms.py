"""Every form of Redis that a URL may name, as real servers on loopback: users are known there, and forgotten.

Certificates are made by the command `openssl`.
"""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from eventually import eventually
from rerank_client import Client, Serve

from bundle.features.history import Interaction, UserContext
from launch.redis import RedisCluster, RedisSentinels, RedisServer, redis_binary
from launch.waiting import NotReadyError
from service import load_histories
from service.context.redis import RedisContextStore
from service.context.store import Event, StoreLimits
from service.errors import StoreUnavailableError, UnknownRecommendationError
from service.settings import Settings

PATIENT = {f"redis_{wait}_ms": 60_000 for wait in ("socket_timeout", "connect_timeout", "pool_wait")}
COMMANDS = (
    *("eval", "get", "set", "del", "strlen", "pexpire", "select"),
    *("type", "zscore", "zadd", "zremrangebyrank"),
)
"""What docs/serving.md says a user must be allowed."""

CLICK = Interaction("i1", "click", 1.5)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisContextStore]:
    settings = Settings(bundle="unused", redis_url=url, **PATIENT)  # type: ignore[arg-type]
    store = RedisContextStore.from_settings(settings, StoreLimits(60, 60, 5))
    try:
        yield store
    finally:
        await store.close()


async def keeps_its_promises(url: str) -> None:
    """Each operation of a store, for users of many slots."""
    async with opened(url) as store:
        await asyncio.gather(*(one_user(store, f"user {number}") for number in range(20)))


async def one_user(store: RedisContextStore, user_id: str) -> None:
    await store.replace(user_id, UserContext({"a": 1}))
    made = await store.recommend(user_id, 60)
    assert made.id is not None
    assert made.context == UserContext({"a": 1})
    appended = await store.append(made.id, [Event(CLICK, "e"), Event(CLICK, "e")])
    assert (appended.applied, appended.ignored) == (1, {1: "duplicate"})
    added = await store.add(user_id, [Event(CLICK, "e"), Event(CLICK)])
    assert (added.applied, added.ignored) == (1, {0: "duplicate"})
    assert await store.read(user_id) == UserContext({"a": 1}, (CLICK, CLICK))
    await store.forget(user_id)
    assert await store.read(user_id) is None
    with pytest.raises(UnknownRecommendationError):
        await store.append(made.id, [Event(CLICK)])


async def refused(url: str) -> None:
    async with opened(url) as store:
        with pytest.raises(StoreUnavailableError):
            await store.recommend("u", 60)


@pytest.mark.parametrize("protocol", ["?protocol=2", "?protocol=3", ""])
async def test_a_server(redis_server: RedisServer, protocol: str) -> None:
    await keeps_its_promises(redis_server.url + protocol)


async def test_databases_are_apart(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as store:
        await store.replace("u", UserContext())
    for url in (redis_server.url[:-1] + "3", redis_server.url[:-2] + "?db=3"):
        async with opened(url) as store:
            assert await store.read("u") is None


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis 1.sock"
    own = "--port", "0", "--unixsocket", str(path)
    with RedisServer(*own, url=f"unix://{path}?db=1") as server:
        await keeps_its_promises(server.url)


async def test_a_password_and_an_acl_user() -> None:
    with RedisServer("--requirepass", "ge:h@im", url="redis://:ge%3Ah%40im@127.0.0.1:{port}") as server:
        await keeps_its_promises(server.url)
        allowed = [f"+{command}" for command in COMMANDS]
        server.client.execute_command("ACL", "SETUSER", "rerank", "on", ">pass", "~rerank:*", *allowed)
        for protocol in (2, 3):
            where = f"127.0.0.1:{server.port}/0?protocol={protocol}"
            await keeps_its_promises(f"redis://rerank:pass@{where}")
            await refused(f"redis://rerank:wrong@{where}")
            await refused(f"redis://{where}")


@pytest.fixture(scope="module")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a certificate of it for localhost, which serves clients too."""
    if shutil.which("openssl") is None:
        pytest.fail("the tests of TLS make their certificates by openssl, which is not on the PATH")
    folder = tmp_path_factory.mktemp("tls")
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run(
        [
            *(*new, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return folder


async def test_tls(tls_folder: Path) -> None:
    certificate, key = tls_folder / "cert.pem", tls_folder / "key.pem"
    files = f"ssl_ca_certs={certificate}&ssl_certfile={certificate}&ssl_keyfile={key}"
    client = {"ssl_ca_certs": certificate, "ssl_certfile": certificate, "ssl_keyfile": key}
    own = f"--port 0 --tls-cert-file {certificate} --tls-key-file {key} --tls-ca-cert-file {certificate}"
    server = RedisServer(*own.split(), url="rediss://127.0.0.1:{port}/0", **client)
    server.options = (*server.options, "--tls-port", str(server.port))
    try:
        server.start()
    except NotReadyError:
        built = subprocess.run(["ldd", redis_binary()], capture_output=True, text=True, check=False).stdout
        if "libssl" not in built:
            pytest.skip(f"{redis_binary()} was built without TLS")
        raise
    with server:
        for protocol in (2, 3):
            await keeps_its_promises(f"{server.url}?{files}&protocol={protocol}")
        await refused(f"{server.url}?{files.replace('ssl_ca_certs', 'client_name')}")
        await refused(f"{server.url}?ssl_ca_certs={certificate}")  # the server asks for the client's, too
        await refused(server.url.replace("rediss", "redis"))
        await keeps_its_promises(f"{server.url}?ssl_cert_reqs=none&{files.partition('&')[2]}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.mark.parametrize("protocol", ["", "?protocol=3"])
async def test_a_cluster(cluster: RedisCluster, protocol: str) -> None:
    await keeps_its_promises(cluster.url + protocol)
    assert all(node.client.info("commandstats").get("cmdstat_eval") for node in cluster.nodes[:3]), (
        "all asked"
    )


def test_histories_are_loaded_into_it(
    cluster: RedisCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids that look like a key's hash tag among them."""
    people = [*(f"u{number}" for number in range(500)), "{}", "}{", "{a}b", "*"]
    path = tmp_path / "h.jsonl"
    path.write_text("".join(json.dumps({"user_id": person}) + "\n" for person in people))
    for told in ("504 people put into Redis, 0 were", "0 people put into Redis, 504 were"):
        assert load_histories.main([str(path), "--redis-url", cluster.url]) == 0
        assert capsys.readouterr().out.startswith(told)


async def test_a_slot_that_moved(cluster: RedisCluster) -> None:
    """While it moves (ASK) and when it has moved (MOVED), its users are known."""
    source, target = cluster.nodes[0], cluster.nodes[1]
    ids = [node.client.execute_command("CLUSTER MYID") for node in (source, target)]
    user_id, slot = next(
        (f"u{n}", slot)
        for n in range(1000)
        if (slot := source.client.execute_command("CLUSTER", "KEYSLOT", f"{{u{n}}}")) < 5000
    )
    async with opened(cluster.url) as store:
        await store.replace(user_id, UserContext({"a": 1}))
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        keys = source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10)
        source.client.migrate("127.0.0.1", target.port, keys, 0, 1000)
        assert await store.read(user_id) == UserContext({"a": 1})
        for node in (target, source, cluster.nodes[2]):
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        made = await store.recommend(user_id, 60)
        assert made.context == UserContext({"a": 1})
        assert made.id is not None
        assert (await store.append(made.id, [Event(CLICK)])).applied == 1


@pytest.mark.faults
async def test_a_lost_node_of_a_cluster_is_replaced(cluster: RedisCluster, serve: Serve) -> None:
    victim = cluster.nodes[2]
    async with serve(redis_url=cluster.url) as client:
        users = [f"v{number}" for number in range(8)]
        for user_id in users:
            await client.put(f"/v1/users/{user_id}/context", json={})
        await asyncio.sleep(0.2)  # replicated
        victim.stop()
        for user_id in users:
            await personalised(client, user_id)


async def personalised(client: Client, user_id: str, within_s: float = 20) -> dict[str, int]:
    """Ask until the user is known and the list recorded. Every answer on the way is the model's."""
    seen: dict[str, int] = {}
    started = monotonic()
    while monotonic() - started < within_s:
        answer = await client.rerank(["i1", "i2"], user_id=user_id, strict=True)
        assert answer.status_code == 200
        assert answer.json()["fallback"] is None
        seen[answer.json()["context"]] = seen.get(answer.json()["context"], 0) + 1
        if answer.json()["context"] == "hit" and answer.json()["recommendation_id"]:
            return seen
        await asyncio.sleep(0.01)
    raise AssertionError(f"{user_id} is not known again: {seen}")


@pytest.mark.faults
async def test_sentinels_promote_the_replica_under_load(serve: Serve) -> None:
    with RedisSentinels("the-master", down_after_ms=200) as sentinels:
        for protocol in ("", "?protocol=3"):
            await keeps_its_promises(sentinels.url + protocol)
        async with serve(redis_url=sentinels.url) as client:
            known: list[tuple[float, bool]] = []
            over = False

            async def ask() -> None:
                while not over:
                    answer = await client.rerank(["i1", "i2"], user_id="u", strict=True)
                    assert (answer.status_code, answer.json()["fallback"]) == (200, None)
                    hit = answer.json()["context"] == "hit" and answer.json()["recommendation_id"] is not None
                    known.append((monotonic(), hit))
                    await asyncio.sleep(0.005)

            await client.put("/v1/users/u/context", json={"history": [{"item_id": "i1", "type": "click"}]})
            assert sentinels.master.client.wait(1, 5000) == 1, "replicated"
            asking = [asyncio.create_task(ask()) for _ in range(4)]
            await eventually(lambda: len(known) > 20)
            assert all(hit for _, hit in known)
            killed = monotonic()
            sentinels.master.stop()

            def promoted() -> bool:
                return bool(sentinels.replica.client.role()[0] == b"master")

            async with asyncio.timeout(30):
                while not promoted():
                    await asyncio.sleep(0.02)
            since = monotonic()
            await asyncio.sleep(2.5)
            over = True
            await asyncio.gather(*asking)
            lost = [when for when, hit in known if not hit]
            print(f"promoted after {since - killed:.2f} s, last anonymous {max(lost) - killed:.2f} s")
            assert lost, "the master was missed"
            assert max(lost) - since < 2.0, "personalised again"
            made: Any = (await client.rerank(["i1"], user_id="u")).json()["recommendation_id"]
            sent = {"recommendation_id": made, "events": [{"type": "click", "item_id": "i1"}]}
            assert (await client.post("/v1/feedback", json=sent)).status_code == 202


async def test_a_connection_to_a_former_master_is_dropped(serve: Serve) -> None:
    """It answers, READONLY, for ever. The sentinels know better."""
    with RedisSentinels("m", down_after_ms=60_000) as sentinels:
        async with serve(redis_url=sentinels.url, **PATIENT) as client:
            await client.put("/v1/users/u/context", json={})
            await personalised(client, "u")
            assert sentinels.master.client.wait(1, 5000) == 1, "replicated"
            sentinels.fail_over()
            seen = await personalised(client, "u")
            assert set(seen) == {"hit"}, "read all the while"
            assert (await client.put("/v1/users/u/context", json={})).status_code == 204
