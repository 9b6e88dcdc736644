"""What `loadtest.capacity` plans with, and how near its simulation is: `python -m bench.capacity`.

Measures one worker on one core, alone and among many: the event loop's time for a request, inference by
candidates, positions and tokens, batches, interruptions; memory; what HAProxy and Redis take; bytes in Redis.
Then sends an open loop at several rates, and simulates the same. Writes bench/results/capacity.json,
docs/capacity.md and its picture.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from bench import capacity_page, redis_memory
from bench.alone import put_first, ran_s, watch
from bench.client import Run, closed_loop, open_loop, paced_loop, post
from bench.locality import on_the_servers_core
from bench.machine import CLIENT_CORE, ROOT, SERVER_CORE, keep
from bench.payloads import Workload, workload
from bench.servers import RERANK, Server, is_answer, ours, pin_client, running, tell_users
from launch.proxies import haproxy
from launch.redis import RedisServer
from loadtest import capacity
from loadtest import simulation as simulated
from loadtest.simulation import Rules, Times
from model.progress import console, progress

Row = dict[str, Any]

LIST = 50, 10, 0
"""Candidates, positions and tokens of the lists that are simulated."""
CELLS = (LIST, (10, 10, 0), (50, 10, 3), (50, 50, 0), (200, 10, 0), (200, 50, 0), (200, 50, 3), (1000, 10, 0))
CELLS += ((1000, 50, 0), (1000, 50, 3))
CLOSED, PAUSES_MS = (1, 2, 4, 8, 16), (0.3, 1.0, 3.0, 10.0)
MANY, LARGE = CLOSED[-1], 2
"""Connections of the largest closed loop, and the place of the first whose batches are large."""
FRACTIONS = (0.2, 0.35, 0.5, 0.65, 0.75)
TIGHT_MS, BEYOND = 20.0, 1.2
CONNECTIONS = 512
"""So many that no request waits for one."""
LEAD_S = 1.0
LATE_MS, WAITED, ATTEMPTS = 0.5, 0.01, 2
"""A round was alone if the client sent all but one in a hundred within this of when they were due, and the
worker waited for other processes no longer than this share of the time. Otherwise it is tried again."""
KEPT, SIMULATED = 400, 50_000
QUANTILES = {"p50_ms": 0.5, "p99_ms": 0.99}


def bodies(load: Workload, top_n: int, tokens: int, **more: Any) -> list[bytes]:
    reasoning = {"max_tokens": tokens, "entropy_threshold": 0.0}
    return [
        post(RERANK, json.dumps({**json.loads(one), "top_n": top_n, "reasoning": reasoning, **more}).encode())
        for one in load.bodies
    ]


def counters(server: Server) -> dict[str, float]:
    """Of inference: its seconds, requests, batches."""
    with urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found = {"sum": 0.0, "count": 0.0, "batches": 0.0}
    for sample in (sample for family in families for sample in family.samples):
        of, _, what = sample.name.rpartition("_")
        if of == "rerank_stage_duration_seconds" and sample.labels["stage"] == "infer" and what in found:
            found[what] += sample.value
        if sample.name == "rerank_batch_size_count":
            found["batches"] += sample.value
    return found


def watched(server: Server, sent: Sequence[bytes], connections: int, seconds: float) -> Row:
    """A closed loop: microseconds of CPU and of inference a request, and lists in a batch."""
    closed_loop(server.port, sent, connections, 0.3, is_answer)
    before, ran = counters(server), ran_s(server.pids)
    run = closed_loop(server.port, sent, connections, seconds, is_answer)
    ran, after = ran_s(server.pids) - ran, counters(server)
    spent = {name: after[name] - before[name] for name in after}
    batch = spent["count"] / spent["batches"]
    return {
        "per_second": run.per_second,
        "cpu_us": 1e6 * ran / len(run.latencies_ms),
        "infer_us": 1e6 * spent["sum"] / spent["count"],
        "batch": batch,
        "latencies_us": 1000 * run.latencies_ms,
    }


def paced(server: Server, sent: Sequence[bytes], pause_ms: float, seconds: float) -> Row:
    """As `watched`, on one connection with pauses."""
    ran = ran_s(server.pids)
    run = paced_loop(server.port, sent, pause_ms / 1000, seconds, is_answer)
    ran = ran_s(server.pids) - ran
    return {"cpu_us": 1e6 * ran / len(run.latencies_ms), "latencies_us": 1000 * run.good_ms}


def pooled(rows: Sequence[Row]) -> Row:
    """All rounds of a loop, taken together."""
    names = [name for name in rows[0] if name != "latencies_us"]
    figures = {name: float(np.mean([row[name] for row in rows])) for name in names}
    return {**figures, "latencies_us": np.concatenate([row["latencies_us"] for row in rows])}


def calibrated(closed: Sequence[Row], pauses: Sequence[Row]) -> Row:
    """The times of `loadtest.simulation`, from closed loops on one connection to many, and ones with pauses.
    CPU time is that of the event loop, which is all that the server does. What each list more takes of it in
    large batches is the list's, and the rest is the round's. How much latencies vary is told by the shortest
    pause, because Linux interrupts a loop that never pauses, in favour of other processes."""
    alone, many = closed[0], closed[-1]
    marginal = (many["infer_us"] / alone["infer_us"] - 1) / (many["batch"] - 1)
    marginal = min(max(marginal, 0.05), 1.0)
    batch, cpu_us = (np.array([row[name] for row in closed]) for name in ("batch", "cpu_us"))
    loop_us = batch * cpu_us - alone["infer_us"] * (1 + marginal * (batch - 1))
    request_us = float((loop_us[-1] - loop_us[LARGE]) / (batch[-1] - batch[LARGE]))
    rounds_us = np.maximum(0.0, loop_us - batch * request_us)
    if request_us <= 0:
        raise RuntimeError("inference took longer by the clock than the process had the core: not alone here")
    lone_us = float(np.median(alone["latencies_us"]))
    extras_us = sample(pauses[0]["latencies_us"] - np.median(pauses[0]["latencies_us"]))
    wakes_us = [np.maximum(0.0, sample(of["latencies_us"] - lone_us) - extras_us) for of in pauses]
    rests_us = [
        of["cpu_us"] - alone["cpu_us"] - float(np.median(wake))
        for of, wake in zip(pauses, wakes_us, strict=True)
    ]
    return {
        "wire_us": lone_us - alone["cpu_us"],
        "wakes_us": {str(pause): of.round(1).tolist() for pause, of in zip(PAUSES_MS, wakes_us, strict=True)},
        "rest_us": max(0.0, float(np.median(rests_us))),
        "rounds_us": [
            [round(size, 2), round(of, 1)]
            for size, of in zip(batch.tolist(), rounds_us.tolist(), strict=True)
        ],
        "request_us": request_us,
        "alone_us": alone["infer_us"],
        "marginal": marginal,
        "extras_us": extras_us.round(1).tolist(),
        "closed": [{name: round(row[name], 2) for name in ("cpu_us", "batch", "infer_us")} for row in closed],
        "paced_cpu_us": {
            str(pause): round(of["cpu_us"], 1) for pause, of in zip(PAUSES_MS, pauses, strict=True)
        },
    }


def sample(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of so many, by their quantiles."""
    return np.quantile(times, (np.arange(KEPT) + 0.5) / KEPT)


def cells(server: Server, bundle: Path, round_us: float, seconds: float) -> Iterator[Row]:
    """Times by candidates, positions and tokens."""
    for items, top_n, tokens in progress(CELLS, "sizes"):
        load = workload(bundle, "ids", (items,))
        sized = bodies(load, top_n, tokens)
        alone, many = (watched(server, sized, count, seconds) for count in (1, MANY))
        request_us = many["cpu_us"] - many["infer_us"] / many["batch"] - round_us / many["batch"]
        yield {
            "items": items,
            "top_n": top_n,
            "tokens": tokens,
            "alone_us": round(alone["infer_us"], 1),
            "request_us": round(max(1.0, request_us), 1),
            "body_bytes": sum(map(len, load.bodies)) // len(load.bodies),
            "per_second": many["per_second"],
        }


def around(bundle: Path, load: Workload, sent: Sequence[bytes], seconds: float) -> Row:
    """CPU microseconds that HAProxy and Redis take for a rerank."""
    with ExitStack() as stack:
        with on_the_servers_core():
            redis = stack.enter_context(RedisServer())
        command = ours(bundle, redis_url=redis.url, redis_socket_timeout_ms=500)
        server = stack.enter_context(running("capacity-redis", command, sent[0]))
        tell_users(server, load)
        folder = ROOT / "build/bench/capacity"
        folder.mkdir(parents=True, exist_ok=True)
        with on_the_servers_core():
            port = stack.enter_context(haproxy(folder, [server.port]))
        (proxy,) = (one for one in psutil.Process().children() if one.name() == "haproxy")
        store = psutil.Process(redis.pid)
        closed_loop(port, sent, MANY, 0.5, is_answer)
        before = [sum(one.cpu_times()[:2]) for one in (proxy, store)]
        run = closed_loop(port, sent, MANY, 2 * seconds, is_answer)
        spent = [sum(one.cpu_times()[:2]) - had for one, had in zip((proxy, store), before, strict=True)]
    each = [round(1e6 * one / len(run.latencies_ms), 1) for one in spent]
    return {"proxy_cpu_us": each[0], "redis_cpu_us": each[1]}


def redis_bytes() -> Row:
    """By `bench.redis_memory`."""
    with RedisServer() as server:
        found = dict(asyncio.run(redis_memory.measure(server)))
    context = {str(n): found[f"context of a user, {n} events"] for n in redis_memory.HISTORIES}
    lists = {str(n): found[f"recommendation of {n} items, mean of {redis_memory.LISTS}"] for n in (0, 50)}
    return {
        "context": context,
        "recommendation": lists,
        "token": found["token of a user who was recommended something"],
        "event_id": found["event ids of a user, 1000"] / 1000,
    }


@dataclass
class Case:
    """An open loop, and its rounds."""

    rate: float
    sent: Sequence[bytes]
    deadline_ms: float = 1000.0
    rounds: list[Run] = field(default_factory=list)
    kept_from: list[Row] = field(default_factory=list)

    def run(self, server: Server, seconds: float, seed: int) -> None:
        """One more round. One that was not alone is tried again."""
        for attempt in range(ATTEMPTS):
            with watch(server.pids, SERVER_CORE) as worker, watch([os.getpid()], CLIENT_CORE) as client:
                run = open_loop(
                    server.port,
                    self.sent,
                    self.rate,
                    seconds,
                    connections=CONNECTIONS,
                    seed=seed,
                    judge=is_answer,
                    lead_s=LEAD_S,
                )
            found = {
                "late_p99_ms": round(float(np.quantile(run.late_ms, 0.99)), 3),
                "lag_p99_ms": round(float(np.quantile(run.lags_ms, 0.99)), 3),
                "worker_waited": round(worker.waited, 4),
                "client_waited": round(client.waited, 4),
                "worker_stolen": round(worker.stolen, 4),
                "client_stolen": round(client.stolen, 4),
            }
            if was_alone(found) or attempt == ATTEMPTS - 1:
                self.rounds.append(run)
                self.kept_from.append({**found, "alone": was_alone(found)})
                return

    @property
    def good_ms(self) -> NDArray[np.float64]:
        return np.concatenate([run.good_ms for run in self.rounds])

    def row(self) -> Row:
        """All rounds taken together, and the quantiles of each."""
        asked = sum(len(run.latencies_ms) for run in self.rounds)
        found: Row = {
            "offered_per_second": round(self.rate, 1),
            "deadline_ms": self.deadline_ms,
            "answered": round(len(self.good_ms) / asked, 4),
        }
        for name, share in QUANTILES.items():
            found[name] = round(float(np.quantile(self.good_ms, share)), 3)
            found[f"rounds_{name}"] = [
                round(float(np.quantile(one.good_ms, share)), 3) for one in self.rounds
            ]
        return {**found, "kept_from": self.kept_from}


def was_alone(found: Row) -> bool:
    """Whether a round was: the client sent in time, and no other process had the worker's core."""
    return bool(found["late_p99_ms"] <= LATE_MS and found["worker_waited"] <= WAITED)


def with_simulated(rows: Sequence[Row], times: Times, saturation: float) -> list[Row]:
    """The same, simulated."""
    made = []
    for row in rows:
        rate, rules = row["offered_per_second"], Rules(deadline_s=row["deadline_ms"] / 1000)
        outcome = simulated.open_loop(times, rules, rate, SIMULATED, seed=1)
        found: Row = {
            "fraction": round(rate / saturation, 3),
            "simulated_answered": round(len(outcome.seconds) / SIMULATED, 4),
        }
        for name, share in QUANTILES.items():
            found[f"simulated_{name}"] = round(outcome.quantile_ms(share), 3)
        made.append({**row, **found})
    return made


def measure(bundle: Path, seconds: float, rounds: int) -> Row:
    """Each round has all of it, so that what changes meanwhile changes all alike."""
    pin_client()
    load = workload(bundle, "ids", LIST[:1])
    sent, tight = bodies(load, *LIST[1:]), bodies(load, *LIST[1:], deadline_ms=TIGHT_MS)
    with running("capacity", ours(bundle), sent[0]) as server:
        tell_users(server, load)
        put_first([os.getpid(), *server.pids])
        rate = watched(server, sent, MANY, seconds)["per_second"]
        cases = [Case(fraction * rate, sent) for fraction in FRACTIONS] + [
            Case(BEYOND * rate, tight, TIGHT_MS)
        ]
        closed, pauses = [], []
        for seed in progress(range(rounds), "rounds"):
            closed.append([watched(server, sent, count, seconds / 2) for count in CLOSED])
            pauses.append([paced(server, sent, pause_ms, seconds / 2) for pause_ms in PAUSES_MS])
            for case in cases:
                case.run(server, 3 * seconds, seed)
        loops = [pooled(of) for of in zip(*closed, strict=True)]
        saturation = loops[-1]["per_second"]
        found = calibrated(loops, [pooled(of) for of in zip(*pauses, strict=True)])
        times = capacity.times_of(found, found["request_us"] * 1e-6, found["alone_us"] * 1e-6)
        sizes = list(cells(server, bundle, found["rounds_us"][-1][1], seconds / 2))
        memory = server.resident_mib()
    return {
        **found,
        "saturation_per_second": saturation,
        "tight_ms": TIGHT_MS,
        "compared": with_simulated([case.row() for case in cases], times, saturation),
        "cells": sizes,
        "worker_mib": round(memory, 1),
        **around(bundle, load, sent, seconds),
        "redis_bytes": redis_bytes(),
    }


def planned(results: Row) -> Row:
    """What is bought, for the page: kept, because it takes a while to simulate."""
    measured, site = capacity.Measured(results), capacity.Site()
    demands = [capacity.Demand(rate, users) for rate, users in product(capacity.RATES, capacity.USERS)]
    hourly = [replace(one, ttl_s=3600.0) for one in demands if one.rate >= 1e5]
    return {
        "worst_fit": measured.worst_fit,
        "plan": [capacity.row(one, measured.plan(one, site)) for one in demands],
        "plan_hour": [capacity.row(one, measured.plan(one, site)) for one in hourly],
        "worker_rates": [
            worker_rate(measured, capacity.Demand(1, 1, *(cell[axis] for axis in capacity.CELL)), site)
            for cell in results["cells"]
        ],
    }


def worker_rate(measured: capacity.Measured, demand: capacity.Demand, site: capacity.Site) -> float | None:
    """Of a worker, within the objective; None where one in a hundred takes longer at any rate."""
    try:
        return round(measured.plan(demand, site).worker_rate, 1)
    except ValueError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ranklens"))
    parser.add_argument("--seconds", type=float, default=2.5, help="of a closed loop, or three times that")
    parser.add_argument("--rounds", type=int, default=3, help="of all loops")
    arguments = parser.parse_args()
    results = measure(arguments.bundle.resolve(), arguments.seconds, arguments.rounds)
    results |= planned(results)
    kept_at = keep("capacity", results, "simpy", "redis", command="python -m bench.capacity")
    capacity_page.write()
    console.print(f"{kept_at}, {', '.join(capacity_page.PAGES)}")


if __name__ == "__main__":
    main()
