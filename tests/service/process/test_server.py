"""The real process: `python -m service` with uvicorn, its signals, its logs, what it refuses."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from asking import asked_all_the_time, readiness, rerank
from eventually import eventually

from launch.service import ROOT, ServiceProcess

Start = Callable[..., ServiceProcess]


@pytest.fixture
def start(bundle: Path, tmp_path: Path) -> Iterator[Start]:
    """`start("--drain-s", "0")`: a service that is ready. Its log is in `tmp_path / "log"`."""
    started: list[ServiceProcess] = []

    def start(*arguments: str) -> ServiceProcess:
        started.append(ServiceProcess(bundle, *arguments, log=tmp_path / "log"))
        started[-1].until_ready()
        return started[-1]

    yield start
    for service in started:
        service.process.kill()
        service.process.wait()


async def test_sigterm_fails_readiness_then_drains_and_exits_with_0(start: Start, tmp_path: Path) -> None:
    service = start("--drain-s", "600")
    with asked_all_the_time(service) as codes:
        await eventually(lambda: len(codes) > 2)
        service.process.terminate()
        await eventually(lambda: readiness(service) == (503, "draining"))
        assert httpx.get(f"{service.url}/livez").status_code == 200
        answer = rerank(service)
        assert (answer.status_code, answer.json()["fallback"]) == (200, None), "still answered while draining"
        service.process.terminate()  # enough of it
        assert service.until_ended() == 0, "without the wait"
    assert set(codes) == {200}, "no request that was answered at all was dropped"
    logs = (tmp_path / "log").read_text()
    assert {"timestamp", "level", "logger", "message"} <= set(json.loads(logs.splitlines()[0]))
    assert "somebody" not in logs


async def test_a_request_being_sent_when_the_port_closes_is_finished(start: Start) -> None:
    service = start("--drain-s", "0")
    body = json.dumps({"items": [{"id": "i1"}, {"id": "i2"}]}).encode()
    head = f"POST /v1/rerank HTTP/1.1\r\nhost: t\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    def taken() -> bool:
        """Besides the request that asks for it."""
        return "rerank_inflight_requests 2.0\n" in httpx.get(f"{service.url}/metrics").text

    def closed() -> bool:
        try:
            socket.create_connection(("127.0.0.1", service.port), timeout=60).close()
        except ConnectionRefusedError:
            return True
        return False

    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as open_request:
        open_request.sendall(head + body[:10])
        await eventually(taken)
        service.process.terminate()
        await eventually(closed)
        open_request.sendall(body[10:])
        assert open_request.recv(100).startswith(b"HTTP/1.1 200")
    assert service.until_ended() == 0


@pytest.mark.parametrize("fault", ["missing", "changed"])
def test_a_bad_bundle_is_refused_with_one_line(fault: str, bundle: Path, tmp_path: Path) -> None:
    if fault == "changed":
        shutil.copytree(bundle, tmp_path, dirs_exist_ok=True)
        (tmp_path / "slate.onnx").write_bytes(b"not a graph")
    command = [sys.executable, "-m", "service", "--bundle", str(tmp_path)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert ("no bundle here" if fault == "missing" else "does not match its sha256") in refused.stderr
