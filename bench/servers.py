"""Starts a server pinned to one core, waits until it answers, and ends it with everything it started."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.client import post, send_all
from bench.machine import CLIENT_CORE, ROOT, SERVER_CORE
from bench.payloads import Workload, context_body
from launch.waiting import free_port, until_ready

RERANK = "/v1/rerank"
START_S = 240.0


@dataclass(frozen=True)
class Server:
    """A running server, all its processes taken together."""

    name: str
    port: int
    process: psutil.Process

    @property
    def processes(self) -> list[psutil.Process]:
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def cpu_seconds(self) -> float:
        """User and system time of the processes that are alive."""
        times = [process.cpu_times() for process in self.processes]
        return sum(time.user + time.system for time in times)

    def resident_mib(self) -> float:
        return float(sum(process.memory_info().rss for process in self.processes) / 2**20)


def is_answer(status: int, body: bytes) -> bool:
    """Whether a rerank was answered by the model, with the user's context. A fallback does not count, nor
    does a user who is anonymous because the store did not answer."""
    return status == 200 and b'"fallback":null' in body and b'"unavailable"' not in body


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    probe: bytes,
    environment: Mapping[str, str] | None = None,
    root: Path = ROOT,
) -> Iterator[Server]:
    """Run a server on the server's core until the block ends.

    Args:
        command: with `{port}` where the port goes.
        probe: a rerank request; the server is ready once it gets an answer.
        root: of the code that it runs.

    Raises:
        NotReadyError: it ended, or does not answer within `START_S`.
    """
    port, log = free_port(), ROOT / "build/bench" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [argument.format(port=port) for argument in command],
        cwd=root,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(root),
            "BENCH_PORT": str(port),
            **(environment or {}),
        },
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        stdout=subprocess.DEVNULL,
        stderr=log.open("wb"),
    )
    server = Server(name, port, psutil.Process(process.pid))
    try:
        until_ready(
            name,
            lambda: not send_all(port, [probe], judge=is_answer).failed,
            process,
            log=log,
            within_s=START_S,
        )
        yield server
    finally:
        _end(server)
        process.wait()


def ours(bundle: Path, **settings: object) -> list[str]:
    """The command of this project's service."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    return [sys.executable, "-m", "service", f"--bundle={bundle}", "--port={port}", "--drain-s=0", *options]


def tell_users(server: Server, load: Workload) -> None:
    """Put the contexts of a workload's users into our service."""
    requests = [
        post(f"/v1/users/{user}/context", context_body(context), method="PUT")
        for user, context in load.users.items()
    ]
    if send_all(server.port, requests, judge=_is_stored).failed:
        raise RuntimeError(f"{server.name} did not take the users' contexts")


def pin_client() -> None:
    """Move this process to the client's core."""
    os.sched_setaffinity(0, {CLIENT_CORE})


def _is_stored(status: int, _: bytes) -> bool:
    return status == 204


def _end(server: Server) -> None:
    """SIGTERM, so that it ends its own processes; SIGKILL to those that stay."""
    processes = server.processes
    with suppress(psutil.NoSuchProcess):
        server.process.terminate()
    _, stay = psutil.wait_procs(processes, timeout=15)
    for process in stay:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stay, timeout=10)
