"""How open connections and open requests end."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from asking import readiness
from eventually import eventually
from faulty_runners import Gate, held
from raw import RERANK, Caller, connected
from rerank_client import Client

from launch.service import ServiceProcess
from service.app import create_app
from service.process import listening, server
from service.process.server import DrainingServer, make_server
from service.settings import Settings


@pytest.fixture
def service(bundle: Path, tmp_path: Path) -> Iterator[ServiceProcess]:
    """With all the time to drain. Its log is in `tmp_path / "log"`."""
    patient = ("--drain-s", "600", "--body-timeout-s", "600", "--shutdown-timeout-s", "1")
    with ServiceProcess(bundle, *patient, log=tmp_path / "log") as service:
        yield service
        service.process.kill()


async def test_everybody_is_asked_to_leave(service: ServiceProcess) -> None:
    with connected(service) as busy, connected(service) as idle, connected(service) as new:
        for caller in (busy, idle):
            assert not caller.send(RERANK).answer().closes
        service.process.terminate()
        await eventually(lambda: readiness(service) == (503, "draining"))
        answer = busy.send(RERANK).answer()
        assert (answer.status, answer.json["fallback"], answer.closes) == (200, None, True)
        assert all(caller.is_closed() for caller in (busy, idle, new))
    with connected(service) as late:
        assert late.send(RERANK).answer().closes


async def test_what_is_half_sent_to_the_end_gets_an_error_in_the_one_shape(service: ServiceProcess) -> None:
    with connected(service) as caller:
        caller.send(RERANK[:-1])
        service.process.terminate()
        await eventually(lambda: readiness(service) == (503, "draining"))
        service.process.terminate()
        answer = caller.answer()
        assert (answer.status, answer.json["error_type"], answer.closes) == (503, "unavailable", True)
        assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert service.until_ended() == 0


async def test_sighup_is_no_end(service: ServiceProcess, tmp_path: Path) -> None:
    service.process.send_signal(signal.SIGHUP)
    await eventually(lambda: '"message": "SIGHUP: nothing new to serve"' in (tmp_path / "log").read_text())
    assert readiness(service) == (200, "ok")


@asynccontextmanager
async def draining(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[DrainingServer, Client, httpx.AsyncClient]]:
    """A server in this very process, whose inside is at hand, and a client of its port."""
    monkeypatch.setattr(server, "LAST_RESORT_S", 600)  # or it would be the end of us
    settings = Settings(bundle=bundle, port=0, drain_s=0, shutdown_timeout_s=1)
    app = create_app(settings)
    with listening.listening(settings) as sockets:
        made = make_server(settings, app)
        serving = asyncio.create_task(made.serve(sockets))
        await eventually(lambda: made.started)
        url = f"http://{listening.address(sockets[0])}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as caller, Client(app) as inside:
            yield made, inside, caller
        await serving


async def test_what_still_runs_at_the_end_is_answered_without_the_model(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fallback, the error that strict callers want, and one for what is anywhere else."""
    body: dict[str, Any] = {"items": [{"id": "i1"}, {"id": "i2"}], "deadline_ms": 10_000}

    async def hanging(*_: Any) -> None:
        await asyncio.Event().wait()

    async with draining(bundle, monkeypatch) as (_, inside, caller):
        gate: Gate = held(inside)
        inside.service.contexts.read = hanging  # type: ignore[method-assign]
        asked = [
            asyncio.create_task(caller.post("/v1/rerank", json=body)),
            asyncio.create_task(caller.post("/v1/rerank", json=body | {"strict": True})),
            asyncio.create_task(caller.get("/v1/users/somebody/context")),
        ]
        await eventually(gate.reached.is_set)
        await eventually(lambda: inside.service.metrics.inflight.value == 3)
        os.kill(os.getpid(), signal.SIGTERM)
        listed, strict, elsewhere = await asyncio.gather(*asked)
        gate.set()
    assert (listed.status_code, listed.json()["fallback"]) == (200, "model")
    assert [result["id"] for result in listed.json()["results"]] == ["i1", "i2"]
    for error in (strict, elsewhere):
        assert (error.status_code, error.json()["error_type"]) == (503, "unavailable")
        assert error.json()["request_id"] == error.headers["x-request-id"]
    assert {answer.headers["connection"] for answer in (listed, strict, elsewhere)} == {"close"}


async def test_who_has_connected_is_served_though_the_port_closes(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their connections wait in the socket until the loop turns once more."""
    waiting: list[Caller] = []
    refuse = server.refuse_new_connections

    def connect_before(sockets: list[socket.socket]) -> None:
        waiting.extend(Caller(sockets[0].getsockname()).send(RERANK) for _ in range(20))
        refuse(sockets)

    monkeypatch.setattr(server, "refuse_new_connections", connect_before)
    async with draining(bundle, monkeypatch) as (made, _, _):
        made.handle_exit(signal.SIGTERM, None)
        await eventually(lambda: len(waiting) == 20)
        answers = [await asyncio.to_thread(one.answer) for one in waiting]
        assert [answer.status for answer in answers] == [200] * 20
        for one in waiting:
            one.close()


def test_nobody_connects_after_the_last() -> None:
    listener, late = socket.create_server(("127.0.0.1", 0)), socket.socket()
    with listener, late, socket.create_connection(listener.getsockname()) as early:
        listening.refuse_new_connections([listener])
        late.settimeout(0.1)
        with pytest.raises(TimeoutError):
            late.connect(listener.getsockname())
        early.sendall(b"here")
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(4) == b"here"
