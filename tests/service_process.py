"""The service as a process of its own, and a request over a connection of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
from redis_server import free_port

ROOT = Path(__file__).parents[1]


class Process:
    """`python -m service` on a free port."""

    def __init__(self, bundle: Path, *arguments: str, **environment: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "service", "--bundle", str(bundle), "--port", str(self.port)]
        self.running = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def until_ready(self) -> None:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            assert self.running.poll() is None, self.running.stderr and self.running.stderr.read()
            try:
                if self.client.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the service does not become ready")

    def until_closed(self) -> tuple[int, str]:
        _, logs = self.running.communicate(timeout=60)
        return self.running.returncode, logs


def rerank(port: int) -> httpx.Response:
    items = [{"id": f"i{n}"} for n in range(24)]
    return httpx.post(f"http://127.0.0.1:{port}/v1/rerank", json={"items": items, "user_id": "somebody"})
