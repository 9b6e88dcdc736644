"""The real process: `python -m service` with uvicorn, its signals, its logs, its imports."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from service_process import ROOT, Process, rerank


@pytest.fixture
def process(bundle: Path) -> Iterator[Process]:
    process = Process(bundle, "--drain-s", "0.6")
    process.until_ready()
    yield process
    process.client.close()
    process.running.kill()
    process.running.communicate()


def test_sigterm_fails_readiness_then_drains_and_exits_with_0(bundle: Path) -> None:
    process = Process(bundle, "--drain-s", "60")
    process.until_ready()

    def keep_asking() -> list[int]:
        codes = []
        while True:
            try:
                codes.append(rerank(process.port).status_code)
            except httpx.TransportError:
                return codes

    assert rerank(process.port).json()["fallback"] is None
    with ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(keep_asking) for _ in range(2)]
        time.sleep(0.1)
        process.running.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        ready = process.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "draining")
        assert process.client.get("/livez").status_code == 200
        assert rerank(process.port).status_code == 200, "still answered while draining"
        process.running.send_signal(signal.SIGTERM)  # enough of it
        code, logs = process.until_closed()
        answered = [answer for one in asking for answer in one.result()]
    process.client.close()
    assert code == 0, logs
    assert len(answered) > 2
    assert set(answered) == {200}, "no request that was answered at all was dropped"
    lines = [json.loads(line) for line in logs.splitlines()]
    assert {"timestamp", "level", "logger", "message"} <= set(lines[0])
    assert "somebody" not in logs


def test_a_request_being_sent_at_sigterm_is_finished(process: Process) -> None:
    body = json.dumps({"items": [{"id": "i1"}, {"id": "i2"}]}).encode()
    head = f"POST /v1/rerank HTTP/1.1\r\nhost: t\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as open_request:
        open_request.sendall(head + body[:10])
        process.running.send_signal(signal.SIGTERM)
        time.sleep(1.0)  # the port is closed by now
        open_request.sendall(body[10:])
        assert open_request.recv(100).startswith(b"HTTP/1.1 200")
    assert process.until_closed()[0] == 0


def test_a_second_signal_skips_the_wait(bundle: Path) -> None:
    process = Process(bundle, "--drain-s", "60")
    process.until_ready()
    process.running.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.running.send_signal(signal.SIGTERM)
    assert process.until_closed()[0] == 0
    process.client.close()


@pytest.mark.parametrize("fault", ["missing", "changed"])
def test_a_bad_bundle_is_refused_with_one_line(fault: str, bundle: Path, tmp_path: Path) -> None:
    if fault == "changed":
        for file in bundle.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / "slate.onnx").write_bytes(b"not a graph")
    command = [sys.executable, "-m", "service", "--bundle", str(tmp_path)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert ("no bundle here" if fault == "missing" else "does not match its sha256") in refused.stderr


def test_importing_the_service_leaves_torch_out() -> None:
    code = (
        "import sys, service.app, service.__main__, service.context.redis;"
        "print(*{'torch', 'onnx', 'lightgbm', 'export'} & set(sys.modules))"
    )
    imported = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (imported.returncode, imported.stdout.strip()) == (0, ""), imported.stderr


async def test_not_ready_before_loading(bundle: Path) -> None:
    from rerank_client import Client

    from service.app import create_app
    from service.settings import Settings

    async with Client(create_app(Settings(bundle=bundle))) as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "starting")
        assert (await client.get("/livez")).status_code == 200
        refused = await client.rerank(["i1"])
        assert (refused.status_code, refused.json()["error_type"]) == (503, "unavailable")
