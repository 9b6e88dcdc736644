"""The service over HTTP, on one core: `python -m bench.serving --bundle DIR`.

Closed loop: requests a second at c connections, ids only and with full features, with contexts in the
process and in Redis, and with the slate graph instead of native decoding. For comparison, the engine's own
time for a batch of 16 of the same requests. Open loop: latency against offered rate, up to and beyond
saturation. All in rounds, so that noise affects all equally; the best round of each is kept, by its rate or
its 99th percentile, because whatever else runs on the machine only slows it down.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

from bench.client import Run, closed_loop, open_loop, post
from bench.machine import keep
from bench.payloads import Kind, Workload, workload
from bench.peers.work import MAX_BATCH_SIZE, Work
from bench.servers import RERANK, Server, is_answer, ours, pin_client, running, tell_users
from launch.redis import RedisServer
from model.progress import console, progress

CONNECTIONS = (1, 8, 32, 64)
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)
"""Offered rate over the saturation measured before."""
KEPT_FRACTION = 0.7
ROUNDS = 3

Row = dict[str, Any]


def requests(load: Workload) -> list[bytes]:
    return [post(RERANK, body) for body in load.bodies]


def cost(server: Server, measure: Callable[[], Run]) -> Row:
    """A run's figures with the server's CPU time per request."""
    before = server.cpu_seconds()
    run = measure()
    cpu_us = 1e6 * (server.cpu_seconds() - before) / len(run.latencies_ms)
    return {**run.row(), "server_cpu_us": round(cpu_us, 1)}


def closed_rows(
    cases: Sequence[tuple[Server, str, Kind, list[bytes]]], seconds: float, rounds: int
) -> list[Row]:
    """One row for each case (server, its variant, kind of payload, requests) and number of connections."""
    best: dict[tuple[str, str, int], Row] = {}
    for _ in progress(range(rounds), "closed loop"):
        for connections in CONNECTIONS:
            for server, variant, kind, sent in cases:
                loop = partial(closed_loop, server.port, sent, connections, seconds, is_answer)
                row = cost(server, loop)
                name = (variant, kind, connections)
                if name not in best or row["per_second"] > best[name]["per_second"]:
                    best[name] = row
    return [
        {"variant": variant, "kind": kind, "connections": connections, **row}
        for (variant, kind, connections), row in best.items()
    ]


def open_rows(server: Server, sent: list[bytes], saturation: float, seconds: float, rounds: int) -> list[Row]:
    """One row for each offered rate."""
    best: dict[float, Row] = {}
    for _ in progress(range(rounds), "open loop"):
        for fraction in FRACTIONS:
            rate = fraction * saturation
            row = cost(server, partial(open_loop, server.port, sent, rate, seconds, judge=is_answer))
            if fraction not in best or row["p99_ms"] < best[fraction]["p99_ms"]:
                best[fraction] = {"fraction": fraction, "offered_per_second": round(rate, 1), **row}
    return list(best.values())


def engine_us(bundle: Path, load: Workload, rounds: int = ROUNDS) -> float:
    """Microseconds a request of the model alone, for batches of 16 of these requests."""
    work = Work(bundle)
    jobs = [work.prepare(body) for body in load.bodies[: 8 * MAX_BATCH_SIZE]]
    batches = [jobs[start : start + MAX_BATCH_SIZE] for start in range(0, len(jobs), MAX_BATCH_SIZE)]
    best = [float("inf")] * len(batches)
    for _ in range(rounds + 1):
        for number, batch in enumerate(batches):
            started = process_time()
            work.infer(batch)
            best[number] = min(best[number], process_time() - started)
    return 1e6 * sum(best) / len(jobs)


def measure(bundle: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """All of it."""
    pin_client()
    ids, full = workload(bundle, "ids"), workload(bundle, "features")
    sent, sent_full = requests(ids), requests(full)
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        memory = stack.enter_context(running("memory", ours(bundle), sent[0]))
        remote = stack.enter_context(
            running("redis", ours(bundle, redis_url=redis.url, redis_socket_timeout_ms=500), sent[0])
        )
        graph = stack.enter_context(running("graph", ours(bundle, decoding="graph"), sent[0]))
        for server in (memory, remote, graph):
            tell_users(server, ids)
        alone = engine_us(bundle, ids)
        cases: list[tuple[Server, str, Kind, list[bytes]]] = [
            (memory, "memory", "ids", sent),
            (remote, "redis", "ids", sent),
            (memory, "memory", "features", sent_full),
            (graph, "graph", "ids", sent),
        ]
        closed = closed_rows(cases, seconds, rounds)
        speed = {
            row["connections"]: row["per_second"]
            for row in closed
            if (row["variant"], row["kind"]) == ("memory", "ids")
        }
        saturation = max(speed.values())
        opened = open_rows(memory, sent, saturation, 2 * seconds, rounds)
        alone = min(alone, engine_us(bundle, ids))
    at_70 = next(row for row in opened if row["fraction"] == KEPT_FRACTION)
    return {
        "body_bytes": {
            name: sum(map(len, load.bodies)) // len(load.bodies)
            for name, load in (("ids", ids), ("features", full))
        },
        "engine_us_at_16": round(alone, 1),
        "share_of_engine": round(speed[32] * alone / 1e6, 3),
        "saturation_per_second": saturation,
        "p99_over_p50_at_70": round(at_70["p99_ms"] / at_70["p50_ms"], 2),
        "closed": closed,
        "open": opened,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each closed-loop run")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    results = measure(arguments.bundle.resolve(), arguments.seconds, arguments.rounds)
    path = keep(
        "serving",
        results,
        "onnxruntime",
        "fastapi",
        "uvicorn",
        "uvloop",
        "redis",
        command="python -m bench.serving --bundle DIR",
    )
    console.print(
        f"{path}: {results['saturation_per_second']:.0f} requests/s, {results['share_of_engine']:.2f} of the "
        f"engine's at c = 32, p99/p50 {results['p99_over_p50_at_70']} at 70 % of saturation"
    )


if __name__ == "__main__":
    main()
