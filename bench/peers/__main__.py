"""Our service beside other model servers: `python -m bench.peers --bundle DIR`.

Two races: with our native decoding in every server, so that only the servers differ, and with the peers
running the bundle's slate graph on ONNX Runtime, as model servers usually do. Each peer gets an environment
of its own under `build/peers`, made on the first run. All servers are pinned to one core, the client to the
other. They take turns: at each number of connections, round by round, each is measured while the others are
stopped (SIGSTOP), so that idle servers cost nothing. The best rounds are compared (`bench.peers.rates`).
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench.client import closed_loop
from bench.machine import ROOT, keep
from bench.payloads import workload
from bench.peers.rates import RACES, best_rates
from bench.peers.work import BUNDLE, DECODING
from bench.servers import Server, is_answer, ours, pin_client, running, tell_users
from bench.serving import CONNECTIONS, cost, requests
from engine.settings import Decoding
from model.progress import console, progress

WARM_UP_S = 0.3


@dataclass(frozen=True)
class Peer:
    """A model server: its folder here, the package whose version counts, how it is started and tuned."""

    name: str
    package: str
    command: tuple[str, ...]
    tuning: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        return ROOT / "build/peers" / self.name

    @property
    def requirements(self) -> Path:
        return Path(__file__).parent / self.name / "requirements.txt"


PEERS = (
    Peer(
        "litserve",
        "litserve",
        ("python", "-m", "bench.peers.litserve.server"),
        "one API server and one worker process; batches of what is queued, at most 16, without waiting; the "
        "raw body crosses to the worker; uvloop and httptools; access log off. Tried: its ZeroMQ queue.",
    ),
    Peer(
        "bentoml",
        "bentoml",
        (
            "bentoml",
            "serve",
            "bench.peers.bentoml.server:Reranker",
            "--host",
            "127.0.0.1",
            "--port",
            "{port}",
        ),
        "one worker; asynchronous endpoint that gets the raw body; its adaptive batching, at most 16; "
        "metrics, traces and access log off. Tried: without batching.",
    ),
    Peer(
        "ray_serve",
        "ray",
        ("python", "-m", "bench.peers.ray_serve.server"),
        "RAY_SERVE_THROUGHPUT_OPTIMIZED and RAY_SERVE_ENABLE_HA_PROXY (HAProxy, of one thread, in front of "
        "the replica's own HTTP); one replica; `serve.batch` of at most 16 that never waits; access log and "
        "dashboard off; all its processes on the one core. Tried: its Python proxy, slower by far.",
        {
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "3600",  # it is stopped while others are measured
        },
    ),
)


def install(peer: Peer) -> None:
    """Make the peer's environment, unless it exists with the same requirements."""
    made_of = peer.place / "requirements.txt"
    wanted = peer.requirements.read_text()
    if made_of.exists() and made_of.read_text() == wanted:
        return
    console.print(f"making the environment of {peer.name}, once")
    subprocess.run([sys.executable, "-m", "venv", "--clear", peer.place], check=True)
    pip = [peer.place / "bin/pip", "install", "--quiet", "-r", peer.requirements]
    subprocess.run(pip, check=True)
    made_of.write_text(wanted)


def version(peer: Peer) -> str:
    code = f"from importlib.metadata import version; print(version({peer.package!r}))"
    command = [peer.place / "bin/python", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def only(server: Server, servers: list[Server]) -> Iterator[None]:
    """Stop every other server meanwhile."""
    others = [process for other in servers if other is not server for process in other.processes]
    for process in others:
        _signal(process, psutil.Process.suspend)
    try:
        yield
    finally:
        for process in others:
            _signal(process, psutil.Process.resume)


def _signal(process: psutil.Process, send: Any) -> None:
    with suppress(psutil.NoSuchProcess):
        send(process)


def race(bundle: Path, decoding: Decoding, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each server, number of connections and round. `decoding` is the peers'."""
    load = workload(bundle, "ids")
    sent = requests(load)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        ours_now = stack.enter_context(running("ours", ours(bundle), sent[0]))
        tell_users(ours_now, load)
        servers = [ours_now]
        for peer in PEERS:
            console.print(f"starting {peer.name}")
            program, *arguments = peer.command
            command = [str(peer.place / "bin" / program), *arguments]
            environment = {BUNDLE: str(bundle), DECODING: decoding, **peer.environment}
            servers.append(stack.enter_context(running(peer.name, command, sent[0], environment)))
        pin_client()
        for number in progress(range(rounds), f"peers, {decoding}"):
            for connections in CONNECTIONS:
                for server in servers:
                    loop = partial(closed_loop, server.port, sent, connections, judge=is_answer)
                    with only(server, servers):
                        loop(seconds=WARM_UP_S)
                        row = cost(server, partial(loop, seconds=seconds))
                    of = {"decoding": decoding, "server": server.name, "connections": connections}
                    rows.append({**of, "round": number, **row})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for peer in PEERS:
        install(peer)
    peers = {peer.name: {"version": version(peer), "tuning": peer.tuning} for peer in PEERS}
    bundle = arguments.bundle.resolve()
    rows = [row for way in RACES for row in race(bundle, way, arguments.seconds, arguments.rounds)]
    command = "python -m bench.peers --bundle DIR"
    path = keep("peers", {"peers": peers, "rows": rows}, "onnxruntime", "fastapi", "uvicorn", command=command)
    console.print(f"{path}: {json.dumps({way: best_rates(rows, way) for way in RACES})}")


if __name__ == "__main__":
    main()
