"""deploy/haproxy: HAProxy takes the files, they fit the service, and Compose mounts them."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from dockerfile import ROOT, argument

from launch.debian import find
from launch.proxies import HAPROXY
from service.api import documents, rerank
from service.app import create_app
from service.settings import Settings

FOLDER = HAPROXY.parent
UNITS_MS = {"ms": 1, "s": 1000}

pytestmark = pytest.mark.skipif(find("haproxy") is None, reason="haproxy is not installed")


def lines() -> list[str]:
    return [line.split(" #")[0].strip() for line in HAPROXY.read_text().splitlines()]


def milliseconds(pattern: str) -> list[int]:
    """The times that follow what matches, in the file's order."""
    found = [re.match(rf"{pattern} (\d+)(ms|s)\b", line) for line in lines()]
    return [int(one[1]) * UNITS_MS[one[2]] for one in found if one is not None]


def words(start: str) -> list[str]:
    """Of the lines that start so."""
    found = [word for line in lines() if line.startswith(start) for word in line.split()]
    assert found, start
    return found


def test_haproxy_takes_the_files() -> None:
    run = subprocess.run(["haproxy", "-c", "-f", str(FOLDER)], capture_output=True, text=True, check=False)
    assert (run.returncode, re.findall(r"ALERT|WARNING", run.stderr)) == (0, []), run.stderr


def test_patience_follows_the_services_deadlines() -> None:
    settings = Settings(bundle="/bundle")
    any_list, readable = milliseconds("http-request set-timeout server")
    assert readable == 0.75 * settings.default_deadline_ms
    assert any_list > settings.max_deadline_ms
    assert f"gt {readable} }}" in HAPROXY.read_text()
    (client,) = milliseconds("timeout client")
    assert client > any_list, "it would hang up on a list that is still being made"


def test_connections_fit_the_services_limits() -> None:
    settings = Settings(bundle="/bundle")
    server = words("default-server")
    assert int(server[server.index("maxconn") + 1]) <= settings.max_connections
    assert milliseconds("timeout http-keep-alive") == [1000 * settings.keep_alive_s]


def test_a_replica_that_leaves_is_known_to_before_its_port_closes() -> None:
    server = words("default-server")
    inter, fast, falls = (server[server.index(name) + 1] for name in ("inter", "fastinter", "fall"))
    known_ms = 1000 * int(inter.removesuffix("s")) + (int(falls) - 1) * int(fast.removesuffix("ms"))
    assert known_ms < 1000 * Settings(bundle="/bundle").drain_s


def test_reranks_alone_are_sent_again() -> None:
    """By their routes: all of them, and no other."""
    (paths, pattern) = (words(f"acl rerank {how} ")[3:] for how in ("path", "path_reg"))
    reranks = {route.path for one in (rerank, documents) for route in one.router.routes}
    others = create_app(Settings(bundle="/bundle")).openapi()["paths"]
    matched = {
        route
        for route in (*reranks, *others)
        if route in paths or any(re.search(one, route) for one in pattern)
    }
    assert matched == reranks
    assert "http-request disable-l7-retry unless rerank" in lines()
    assert set(words("retry-on")[1:]) == {"conn-failure", "empty-response", "response-timeout"}


def test_compose_puts_it_before_replicas(compose: dict[str, Any]) -> None:
    yaml.SafeLoader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))
    over = yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]
    proxy = over["proxy"]
    assert over["service"]["ports"] == [], "only one container can have it"
    assert proxy["ports"] == compose["services"]["service"]["ports"]
    bind = re.search(r'bind "\$\{HAPROXY_BIND-:(\d+)\}"', HAPROXY.read_text())
    assert bind is not None
    assert proxy["ports"] == [f"127.0.0.1:8080:{bind[1]}"]
    replicas = re.search(r"\$\{REPLICAS-(\w+):(\d+)\}", (FOLDER / "replicas.cfg").read_text())
    assert replicas is not None
    assert replicas[1] in compose["services"]
    assert replicas[2] == argument("EXPOSE")
    (mount,) = proxy["volumes"]
    source, target, mode = mount.split(":")
    assert (ROOT / source, mode) == (FOLDER, "ro")
    assert proxy["command"][-2:] == ["-f", target]
    assert (proxy["read_only"], proxy["cap_drop"]) == (True, ["ALL"])
