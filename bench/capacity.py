"""What `loadtest.capacity` plans with, and how near its simulation is: `python -m bench.capacity`.

Measures one worker on one core, alone and among many: the event loop's time for a request, inference by
candidates, positions and tokens, batches, interruptions; memory; what HAProxy and Redis take; bytes in Redis.
Then sends an open loop at several rates, and simulates the same. Writes bench/results/capacity.json,
docs/capacity.md and its picture.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import matplotlib

matplotlib.use("Agg")
import numpy as np
import psutil
from matplotlib import pyplot as plt
from prometheus_client.parser import text_string_to_metric_families

from bench import redis_memory
from bench.client import Run, closed_loop, open_loop, post
from bench.locality import on_the_servers_core
from bench.machine import ROOT, keep
from bench.payloads import Workload, workload
from bench.servers import RERANK, Server, is_answer, ours, pin_client, running, tell_users
from evidence import pages
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
MANY, QUIET = 16, 0.1
FRACTIONS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
TIGHT_MS, BEYOND = 20.0, 1.3
NEAR = 0.15
KEPT_EXTRAS = 400
PAGE, PICTURE = "docs/capacity.md", "docs/images/capacity.png"


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
    before, cpu = counters(server), server.cpu_seconds()
    run = closed_loop(server.port, sent, connections, seconds, is_answer)
    cpu, after = server.cpu_seconds() - cpu, counters(server)
    spent = {name: after[name] - before[name] for name in after}
    batch = spent["count"] / spent["batches"]
    return {
        **run.row(),
        "cpu_us": 1e6 * cpu / len(run.latencies_ms),
        "infer_us": 1e6 * spent["sum"] / spent["count"],
        "batch": batch,
    }


def calibrated(alone: Row, many: Row, quiet: Run) -> Row:
    """The times of `loadtest.simulation`, from a closed loop on one connection, one on many, and a quiet open
    one. CPU time is that of the event loop, which is all that the server does."""
    batch = many["batch"]
    one, each = (row["cpu_us"] - row["infer_us"] / row["batch_of"] for row in (alone, many))
    if min(one, each) <= 0:
        raise RuntimeError("inference took longer by the clock than the process had the core: not alone here")
    round_us = min(max(0.0, (one - each) / (1 - 1 / batch)), 0.9 * one)
    quiet_us = 1000 * np.array(quiet.latencies_ms)
    middle = float(np.median(quiet_us))
    lone_us = 1000 * alone["p50_ms"]
    extras = np.quantile(quiet_us - middle, (np.arange(KEPT_EXTRAS) + 0.5) / KEPT_EXTRAS)
    marginal = (many["infer_us"] / alone["infer_us"] - 1) / (batch - 1)
    return {
        "wire_us": max(0.0, lone_us - alone["cpu_us"]),
        "wake_us": max(0.0, middle - lone_us),
        "round_us": round_us,
        "request_us": one - round_us,
        "alone_us": alone["infer_us"],
        "marginal": min(max(marginal, 0.05), 1.0),
        "extras_us": [round(float(extra), 1) for extra in extras],
    }


def loops(server: Server, sent: Sequence[bytes], seconds: float) -> tuple[Row, Row]:
    """On one connection, and on many."""
    alone, many = (watched(server, sent, count, seconds) for count in (1, MANY))
    return {**alone, "batch_of": 1.0}, {**many, "batch_of": many["batch"]}


def cells(server: Server, bundle: Path, round_us: float, seconds: float) -> Iterator[Row]:
    """Times by candidates, positions and tokens."""
    for items, top_n, tokens in progress(CELLS, "sizes"):
        load = workload(bundle, "ids", (items,))
        alone, many = loops(server, bodies(load, top_n, tokens), seconds)
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


def compared(
    server: Server,
    times: Times,
    sent: Sequence[bytes],
    tight: Sequence[bytes],
    rate: float,
    seconds: float,
    rounds: int,
) -> list[Row]:
    """A real open loop and a simulated one at each rate, the last beyond what the worker can do. Of the real
    rounds the middle one counts, by its p99."""
    rows = []
    cases = [(fraction, 1000.0, sent) for fraction in FRACTIONS] + [(BEYOND, TIGHT_MS, tight)]
    for fraction, deadline_ms, requests in progress(cases, "open loop"):
        offered, rules = fraction * rate, Rules(deadline_s=deadline_ms / 1000)
        runs = [
            open_loop(server.port, requests, offered, seconds, seed=seed, judge=is_answer)
            for seed in range(rounds)
        ]
        run = sorted(runs, key=lambda one: float(np.percentile(one.good_ms, 99)))[rounds // 2]
        count = len(run.latencies_ms)
        outcome = simulated.open_loop(times, rules, offered, max(20_000, count), seed=1)
        made = len(outcome.seconds) + outcome.late + outcome.refused
        row = {
            "fraction": fraction,
            "offered_per_second": round(offered, 1),
            "deadline_ms": deadline_ms,
            "answered": round(1 - run.failed / count, 4),
            "simulated_answered": round(len(outcome.seconds) / made, 4),
        }
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
            row[name] = round(float(np.quantile(run.good_ms, share)), 3)
            row[f"simulated_{name}"] = round(outcome.quantile_ms(share), 3)
            row[f"rounds_{name}"] = [round(float(np.quantile(one.good_ms, share)), 3) for one in runs]
        rows.append(row)
    return rows


def measure(bundle: Path, seconds: float, rounds: int) -> Row:
    pin_client()
    load = workload(bundle, "ids", LIST[:1])
    sent, tight = bodies(load, *LIST[1:]), bodies(load, *LIST[1:], deadline_ms=TIGHT_MS)
    with running("capacity", ours(bundle), sent[0]) as server:
        tell_users(server, load)
        alone, many = loops(server, sent, 2 * seconds)
        rate = many["per_second"]
        quiet = open_loop(server.port, sent, QUIET * rate, 4 * seconds, seed=100, judge=is_answer)
        found = calibrated(alone, many, quiet)
        times = capacity.times_of(found, found["request_us"] * 1e-6, found["alone_us"] * 1e-6)
        rows = compared(server, times, sent, tight, rate, 2 * seconds, rounds)
        sizes = list(cells(server, bundle, found["round_us"], seconds / 2))
        memory = server.resident_mib()
    return {
        **found,
        "saturation_per_second": rate,
        "compared": rows,
        "cells": sizes,
        "worker_mib": round(memory, 1),
        **around(bundle, load, sent, seconds),
        "redis_bytes": redis_bytes(),
    }


def off(row: Row, name: str) -> float:
    """By how much the simulation is off, relative."""
    return float(row[f"simulated_{name}"] / row[name] - 1)


def compared_table(results: Row) -> str:
    header = (
        "requests/s",
        "of saturation",
        "deadline ms",
        "answered",
        "simulated",
        "p50 ms",
        "simulated",
        "off",
    )
    lines = [
        (
            f"{row['offered_per_second']:.0f}",
            f"{100 * row['fraction']:.0f} %",
            f"{row['deadline_ms']:g}",
            f"{100 * row['answered']:.1f} %",
            f"{100 * row['simulated_answered']:.1f} %",
            *(
                text
                for name in ("p50_ms", "p99_ms")
                for text in (
                    f"{row[name]:.2f}",
                    f"{row[f'simulated_{name}']:.2f}",
                    f"{100 * off(row, name):+.0f} %"
                    if abs(off(row, name)) <= NEAR
                    else f"**{100 * off(row, name):+.0f} %**",
                )
            ),
        )
        for row in results["compared"]
    ]
    return pages.table((*header, "p99 ms", "simulated", "off"), lines)


def blocks(results: Row) -> dict[str, str]:
    """Of docs/capacity.md."""
    measured = capacity.Measured(results)
    site = capacity.Site()
    demands = [capacity.Demand(rate, users) for rate, users in product(capacity.RATES, capacity.USERS)]
    rows = [capacity.row(one, measured.plan(one, site)) for one in demands]
    shorter = [
        capacity.row(one, measured.plan(replace(one, ttl_s=3600.0), site))
        for one in demands
        if one.rate >= 1e5
    ]
    planned = [
        measured.plan(capacity.Demand(1, 1, *(cell[axis] for axis in capacity.CELL)), site).worker_rate
        for cell in results["cells"]
    ]
    sizes = [
        (
            *(cell[name] for name in capacity.CELL),
            f"{cell['alone_us']:.0f}",
            f"{cell['request_us']:.0f}",
            f"{cell['per_second']:.0f}",
            f"{rate:.0f}",
            cell["body_bytes"],
        )
        for cell, rate in zip(results["cells"], planned, strict=True)
    ]
    near = [
        row for row in results["compared"] if max(abs(off(row, "p50_ms")), abs(off(row, "p99_ms"))) <= NEAR
    ]
    told = (
        f"{len(near)} of {len(results['compared'])} rates are within {100 * NEAR:.0f} % at both quantiles. "
        f"{results['hardware']}; commit {results['commit']}."
    )
    bytes_ = results["redis_bytes"]
    once = pages.table(
        ("measured once", "value"),
        [
            ("a round of the event loop, µs", f"{results['round_us']:.0f}"),
            ("a request's own time on it, µs", f"{results['request_us']:.0f}"),
            ("inference of a list alone, µs", f"{results['alone_us']:.0f}"),
            ("what one more adds to a batch, over that", f"{results['marginal']:.2f}"),
            ("waking after a pause, µs", f"{results['wake_us']:.0f}"),
            ("outside the worker, µs", f"{results['wire_us']:.0f}"),
            ("resident memory of a worker, MiB", f"{results['worker_mib']:.0f}"),
            ("CPU of HAProxy for a rerank, µs", f"{results['proxy_cpu_us']:.0f}"),
            ("CPU of Redis for a rerank, µs", f"{results['redis_cpu_us']:.0f}"),
            ("bytes in Redis of a user with 20 events", f"{bytes_['context']['20']:.0f}"),
            ("bytes of a list of 50 that waits for feedback", f"{bytes_['recommendation']['50']:.0f}"),
        ],
    )
    return {
        "plan": pages.table(capacity.HEADER, rows),
        "plan-hour": pages.table(capacity.HEADER, shorter),
        "sizes": pages.table(
            (*capacity.CELL, "inference µs", "request µs", "most/s", "planned/s", "bytes sent"), sizes
        )
        + f"\n\nTimes are fitted to within {100 * measured.worst_fit:.0f} % of these.",
        "compared": compared_table(results) + "\n\n" + told,
        "once": once,
    }


def draw(results: Row, path: Path) -> None:
    """The latencies of both against the rate."""
    rows = [row for row in results["compared"] if row["deadline_ms"] > TIGHT_MS]
    rates = [row["offered_per_second"] for row in rows]
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for name, color in (("p50_ms", "C0"), ("p99_ms", "C1")):
        each = [row[f"rounds_{name}"] for row in rows]
        axes.fill_between(rates, [min(of) for of in each], [max(of) for of in each], color=color, alpha=0.2)
        axes.plot(rates, [row[name] for row in rows], "o", color=color, label=f"{name[:3]}, real")
        axes.plot(
            rates,
            [row[f"simulated_{name}"] for row in rows],
            "-",
            color=color,
            label=f"{name[:3]}, simulated",
        )
    axes.axvline(results["saturation_per_second"], color="grey", linestyle=":", label="closed loop's most")
    axes.set(xlabel="offered requests/s, Poisson", ylabel="ms since due", yscale="log")
    axes.set_title("One worker: real (range of the rounds) and simulated")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ranklens"))
    parser.add_argument("--seconds", type=float, default=4.0, help="of a measurement, or twice that")
    parser.add_argument("--rounds", type=int, default=3, help="of each open loop")
    arguments = parser.parse_args()
    results = measure(arguments.bundle.resolve(), arguments.seconds, arguments.rounds)
    path = keep("capacity", results, "simpy", "redis", command="python -m bench.capacity")
    stored = json.loads(path.read_text())
    pages.write([PAGE], blocks(stored))
    draw(stored, ROOT / PICTURE)
    console.print(f"{path}, {PAGE}, {PICTURE}")


if __name__ == "__main__":
    main()
