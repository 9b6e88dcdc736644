"""The second port, on a real process."""

import socket
from functools import partial
from pathlib import Path

import httpx
from raw import Caller, head

from launch.redis import RedisServer
from launch.service import ServiceProcess
from launch.waiting import free_port


def test_metrics_have_a_port_of_their_own(bundle: Path) -> None:
    port = str(free_port())
    with ServiceProcess(bundle, "--admin-port", port, "--drain-s", "0") as service:
        assert httpx.get(f"{service.url}/metrics").status_code == 404
        assert "rerank_requests_total" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 404
        service.process.terminate()
        assert service.until_ended() == 0


def test_it_has_the_same_hosts_and_its_own_address(bundle: Path) -> None:
    port, hosts = free_port(), ("--allowed-hosts", "api.example.com")
    with ServiceProcess(bundle, "--admin-port", str(port), *hosts, "--drain-s", "0"):
        asked = partial(httpx.get, f"http://127.0.0.1:{port}/metrics")
        assert asked().status_code == 200
        assert asked(headers={"host": "api.example.com"}).status_code == 200
        refused = asked(headers={"host": "rebound.example.net"})
        assert (refused.status_code, refused.json()["error_type"]) == (400, "validation")


def test_a_taken_port_is_refused_at_the_start(bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        service = ServiceProcess(bundle, "--admin-port", port, log=tmp_path / "log")
        assert service.until_ended() == 3
    assert f"cannot bind 127.0.0.1 port {port}" in (tmp_path / "log").read_text()


def test_its_connections_have_the_same_limits(bundle: Path) -> None:
    port = free_port()
    limits = ("--header-timeout-s", "0.5", "--max-connections", "2", "--health-connections", "1")
    with ServiceProcess(bundle, "--admin-port", str(port), *limits, "--drain-s", "0") as service:
        where = ("127.0.0.1", port)
        with Caller(where) as caller:
            assert caller.send(head("host: another", method="GET", path="/metrics")).answer().status == 400
        with Caller(where) as caller:
            assert (
                caller.send(head("x: " + "a" * 20_000, method="GET", path="/metrics")).answer().status == 431
            )
        with Caller(where) as caller:
            assert caller.send(b"GET /metrics HTTP/1.1\r\n").answer().status == 408
        with Caller(where) as one, Caller(where) as two, Caller(where) as three:
            assert three.send(head(method="GET", path="/metrics")).answer().status == 503
            assert httpx.get(f"{service.url}/livez").status_code == 200
            for caller in (one, two):
                assert caller.send(head(method="GET", path="/metrics")).answer().status in (200, 408)


def test_several_workers_share_its_port_with_no_other_service(
    bundle: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        more = ("--workers", "2", "--redis-url", redis_server.url, "--admin-port", port)
        service = ServiceProcess(bundle, *more, log=tmp_path / "log")
        assert service.until_ended() == 3
    assert f"cannot bind 127.0.0.1 port {port}" in (tmp_path / "log").read_text()


def test_strangers_are_refused_at_the_start_in_one_line(bundle: Path, tmp_path: Path) -> None:
    service = ServiceProcess(bundle, "--host", "0.0.0.0", log=tmp_path / "log")
    assert service.until_ended() == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "--host: others may reach 0.0.0.0: set api_keys_file or allow_anonymous" in line
