"""Where the service listens: IPv6 and IPv4 alike, a unix socket, TLS with certificates of callers."""

import asyncio
import os
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
import uvicorn
from fastapi import FastAPI, Response
from raw import GET_LIVEZ, RERANK, Caller, head
from starlette.types import Receive, Scope, Send

from launch.redis import RedisServer
from launch.service import ServiceProcess
from launch.waiting import free_port, until_ready
from service.__main__ import read_settings
from service.app import create_app
from service.process.connections import Connections
from service.process.listening import listening
from service.settings import Settings

Start = Callable[..., ServiceProcess]


@pytest.fixture
def start(bundle: Path, tmp_path: Path) -> Iterator[Start]:
    """`start(ready, "--host", "::")`: a service that is ready, which `ready` says of its port."""
    started: list[ServiceProcess] = []

    def start(ready: Callable[[int], bool], *arguments: str) -> ServiceProcess:
        log = tmp_path / f"log{len(started)}"
        service = ServiceProcess(bundle, "--drain-s", "0", *arguments, log=log)
        started.append(service)
        until_ready("the service", lambda: ready(service.port), service.process, log=log)
        return service

    yield start
    for service in started:
        service.process.kill()
        service.process.wait()


def on_loopback(port: int) -> bool:
    return answers(("127.0.0.1", port))


def answers(address: object, sent: bytes = GET_LIVEZ) -> bool:
    with Caller(address) as caller:
        return caller.send(sent).answer().status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_all_addresses_are_ipv6_and_ipv4(start: Start, redis_server: RedisServer, workers: int) -> None:
    more = ("--workers", str(workers), "--redis-url", redis_server.url)
    service = start(on_loopback, "--host", "::", "--allow-anonymous", "true", *more)
    for host in ("::1", "127.0.0.1"):
        assert answers((host, service.port), RERANK)


async def test_callers_of_a_unix_socket_are_told_apart(tmp_path: Path) -> None:
    """Without keys a caller is a connection, and one that is greedy takes only its own share."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"])
        await Response()(scope, receive, send)

    path = tmp_path / "s"
    connections = Connections(create_app(Settings(bundle=Path("unused"))).state.service)
    server = uvicorn.Server(connections.config(cast(FastAPI, app), lifespan="off", uds=str(path)))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)

    def ask() -> None:
        with Caller(str(path)) as one, Caller(str(path)) as other:
            for caller in (one, one, other):
                caller.send(GET_LIVEZ).answer()

    await asyncio.to_thread(ask)
    server.should_exit = True
    await serving
    first, again, other = seen
    assert first == again != other


def test_of_two_services_on_a_port_the_later_one_ends(bundle: Path, tmp_path: Path) -> None:
    """Both may bind it, but only one may listen, which is found out when they are ready."""
    log = tmp_path / "log"
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        service = ServiceProcess(bundle, port=port, log=log)
        until_ready(
            "its socket", lambda: "Waiting for application startup" in log.read_text(), service.process
        )
        other.listen()
        assert service.until_ended() == 3
    assert f"cannot listen on 127.0.0.1:{port}" in log.read_text()
    assert '"listening on' not in log.read_text(), "which is said once it is so"


def test_a_name_is_all_its_addresses(start: Start) -> None:
    service = start(on_loopback, "--host", "localhost")
    for *_, where in socket.getaddrinfo("localhost", service.port, type=socket.SOCK_STREAM):
        assert answers(where[:2])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_unix_socket(start: Start, redis_server: RedisServer, tmp_path: Path, workers: int) -> None:
    path = tmp_path / "rerank.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))  # by who has gone since
    more = ("--workers", str(workers), "--redis-url", redis_server.url)
    service = start(lambda _: answers(str(path)), "--uds", str(path), *more)
    assert answers(str(path), RERANK)
    with pytest.raises(ConnectionRefusedError):
        answers(("127.0.0.1", service.port))
    service.process.terminate()
    assert service.until_ended() == 0
    assert not path.exists()


def test_a_unix_socket_is_taken_from_nobody(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rerank.sock"
    settings = Settings(bundle=bundle, uds=path)
    previous = os.umask(0o117)
    try:
        with listening(settings) as (bound,):
            bound.listen()
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with pytest.raises(SystemExit), listening(settings):
                pass
    finally:
        os.umask(previous)
    path.write_text("a file")
    with pytest.raises(SystemExit), listening(settings):
        pass
    assert path.read_text() == "a file"
    assert ["Address already in use" in caplog.messages[0], "File exists" in caplog.messages[1]] == [
        True,
        True,
    ]


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A new one that has signed itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    named = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *named, *files], check=True, capture_output=True)
    return cert, key


def test_tls_and_certificates_of_callers(start: Start, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    own, own_key = certificate(tmp_path, "caller")
    anonymous = ssl.create_default_context(cafile=str(cert))
    known = ssl.create_default_context(cafile=str(cert))
    known.load_cert_chain(own, own_key)

    def status(port: int, context: ssl.SSLContext, sent: bytes = RERANK) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(sent)
            return secured.recv(12)

    admin_port = free_port()
    files = ("--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(own))
    files += ("--admin-port", str(admin_port))
    service = start(lambda port: status(port, known).endswith(b"200"), *files)
    with suppress(ssl.SSLError):  # or the end, without a word
        assert status(service.port, anonymous) == b""
    assert status(admin_port, known, head(method="GET", path="/metrics")).endswith(b"200")
    with suppress(ssl.SSLError):
        assert status(admin_port, anonymous, head(method="GET", path="/metrics")) == b""
    for port in (service.port, admin_port):
        with Caller(("127.0.0.1", port)) as silent:
            assert silent.is_closed(), "not waited for"
    with (
        Caller(("127.0.0.1", service.port)) as plain,
        pytest.raises(OSError, match="closed without an answer"),
    ):
        plain.send(RERANK).answer()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--tls-key", "KEY"], "--tls-cert: expected one for tls_key"),
        (["--tls-cert", "CERT"], "--tls-cert: cannot be used with its key"),
        (["--tls-cert", "nowhere"], "--tls-cert: cannot be used with its key: [Errno 2] No such file"),
        (["--tls-cert", "CERT", "--tls-key", "OTHER"], "--tls-cert: cannot be used with its key"),
        (["--tls-client-ca", "CERT"], "--tls-client-ca: needs tls_cert"),
        (
            ["--tls-cert", "CERT", "--tls-key", "KEY", "--tls-client-ca", "KEY"],
            "--tls-client-ca: cannot be read",
        ),
        (["--root-path", "ranking"], "--root-path: String should match pattern"),
        (["--root-path", "/ranking/"], "--root-path: String should match pattern"),
    ],
)
def test_what_cannot_be_listened_with_is_refused(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cert, key = certificate(tmp_path, "server")
    _, other = certificate(tmp_path, "other")
    files = {"CERT": str(cert), "KEY": str(key), "OTHER": str(other)}
    with pytest.raises(SystemExit) as exit_:
        read_settings(["--bundle", "b", *(files.get(one, one) for one in given)])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
