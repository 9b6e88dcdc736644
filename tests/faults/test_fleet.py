"""Replicas behind HAProxy as in production: what it takes away from them, and what it must not repeat."""

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from eventually import eventually

from faults.traffic import Traffic
from launch.debian import find
from launch.proxies import haproxy
from launch.redis import RedisServer
from launch.service import ServiceProcess
from launch.waiting import free_port

pytestmark = pytest.mark.skipif(find("haproxy") is None, reason="haproxy is not installed")

PORT_ALONE = "option tcp-check"
"""Of HAProxy's backend: a replica is well if its port takes connections."""

Answer = tuple[int, Any]


def ask(port: int, method: str, path: str, body: object = None) -> Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()


@dataclass
class Fleet:
    replicas: list[ServiceProcess]
    port: int
    status: int
    checks_ports: int
    """The status of another HAProxy, which asks ports alone."""

    def up(self, status: int) -> int:
        """Replicas that an HAProxy takes for well."""
        text = ask(status, "GET", "/metrics")[1]
        found = re.findall(r'^haproxy_server_status{[^}]*state="UP"} (\d)', text, re.MULTILINE)
        assert len(found) == len(self.replicas)
        return found.count("1")


@pytest.fixture(scope="module")
def fleet(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as stack:
        tmp_path = tmp_path_factory.mktemp("fleet")
        redis = stack.enter_context(RedisServer())
        told = ("--redis-url", redis.url, "--drain-s", "2")
        replicas = [ServiceProcess(bundle, *told, log=tmp_path / f"{n}.log") for n in range(2)]
        for replica in replicas:
            stack.enter_context(replica)
        ports, status, checks_ports = [one.port for one in replicas], free_port(), free_port()
        for name in ("production", "ports"):
            (tmp_path / name).mkdir()
        port = stack.enter_context(haproxy(tmp_path / "production", ports, status=status))
        stack.enter_context(haproxy(tmp_path / "ports", ports, PORT_ALONE, status=checks_ports))
        yield Fleet(replicas, port, status, checks_ports)
        for replica in replicas:
            replica.process.send_signal(signal.SIGCONT)


def items(number: int) -> list[dict[str, str]]:
    return [{"id": f"mine-{number}"}, *({"id": f"i{n}"} for n in range(5))]


def feedback(port: int, listed: dict[str, Any], number: int) -> Answer:
    event = {"type": "click", "item_id": f"mine-{number}"}
    return ask(
        port, "POST", "/v1/feedback", {"recommendation_id": listed["recommendation_id"], "events": [event]}
    )


async def test_a_long_list_gets_its_time(fleet: Fleet) -> None:
    """A replica is waited for three quarters of a deadline, and of the default one at least."""
    for replica in fleet.replicas:
        replica.process.send_signal(signal.SIGSTOP)

    def unanswered_s(deadline_ms: float) -> float:
        begun = monotonic()
        with suppress(RemoteDisconnected):  # HAProxy 2.6, once it has nobody left to ask
            body = {"deadline_ms": deadline_ms, "items": items(0)}
            assert ask(fleet.port, "POST", "/v1/rerank", body)[0] in (503, 504)
        return monotonic() - begun

    with ThreadPoolExecutor(3) as threads:
        short, default, long = threads.map(unanswered_s, (20, 1000, 2400.0))
    assert min(short, default) > 0.74
    assert long > 1.79
    for replica in fleet.replicas:
        replica.process.send_signal(signal.SIGCONT)
    await eventually(lambda: fleet.up(fleet.status) == 2)


async def test_a_replica_hangs_then_the_other_is_killed(fleet: Fleet) -> None:
    """Nobody fails in an open loop; events without an id, sent meanwhile, count at most once."""
    assert ask(fleet.port, "GET", "/metrics")[0] == 404
    assert ask(fleet.port, "POST", "/v1/models:reload")[0] == 404
    assert ask(fleet.port, "GET", "/v1/models")[0] == 200
    assert fleet.up(fleet.checks_ports) == 2
    hung, killed = fleet.replicas
    ask(fleet.port, "PUT", "/v1/users/u/context", {})
    listed = [ask(fleet.port, "POST", "/v1/rerank", {"user_id": "u", "items": items(n)})[1] for n in range(8)]
    with Traffic([fleet.port], [f"i{n}" for n in range(9)], callers=24, rate=30.0) as traffic:
        hung.process.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor(8) as threads:
            told = list(threads.map(lambda n: feedback(fleet.port, listed[n], n), range(8)))
        await eventually(lambda: fleet.up(fleet.status) == 1)
        assert fleet.up(fleet.checks_ports) == 2, "its port takes connections"
        hung.process.send_signal(signal.SIGCONT)
        await eventually(lambda: fleet.up(fleet.status) == 2)
        killed.process.kill()
        await eventually(lambda: fleet.up(fleet.status) == 1)
    tally = traffic.tally
    assert (tally.failed, tally.lost, tally.doubled) == (0, 0, 0), tally
    assert tally.sent > 30
    assert {status for status, _ in told} <= {202, 504}
    history = ask(fleet.port, "GET", "/v1/users/u/context")[1]["history"]
    clicks = Counter(event["item_id"] for event in history if event["type"] == "click")
    assert set(clicks.values()) == {1}, clicks
    accepted = {f"mine-{n}" for n, (status, _) in enumerate(told) if status == 202}
    assert accepted <= clicks.keys()
