"""The service with more asked of it than it can do: `python -m bench.overload --bundle DIR`.

Goodput: closed loop at 5, 50 and 200 connections with deadlines of 20 ms; only answers of the model count,
and beside them those within the deadline by the client's clock. A greedy neighbour: 8 connections beside
one that always has 17 of the largest requests under way, and beside nobody, in turns. A burst: what 8
connections get while 17 of these come at once. A stall: open loop at 70 % of saturation while the server is
stopped for 50 ms every second. In rounds, whose medians are kept.
"""

import argparse
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

from bench.client import Run, closed_loop, open_loop, post, send_all
from bench.machine import keep
from bench.payloads import workload
from bench.servers import RERANK, Server, is_answer, ours, pin_client, running
from loadtest.payloads import read_item_ids
from model.progress import console, progress
from service.settings import Settings

Row = dict[str, Any]

CONNECTIONS = (5, 50, 200)
DEADLINE_MS = 20.0
NEIGHBOURS = 8
HUGE = 17
STALL_S, STALL_EVERY_S = 0.05, 1.0
FRACTION = 0.7
ROUNDS = 3


def with_deadline(bodies: Sequence[bytes], deadline_ms: float) -> list[bytes]:
    return [
        post(RERANK, json.dumps({**json.loads(body), "deadline_ms": deadline_ms}).encode()) for body in bodies
    ]


def huge(bundle: Path) -> bytes:
    """The most that one request may ask for: items, positions, tokens and time."""
    limits = {name: Settings.model_fields[name].default for name in ("max_items", "max_top_n")}
    ids = read_item_ids(bundle)
    body = {
        "items": [{"id": ids[n] if n < len(ids) else f"unknown-{n}"} for n in range(limits["max_items"])],
        "top_n": limits["max_top_n"],
        "deadline_ms": Settings.model_fields["max_deadline_ms"].default,
        "reasoning": {
            "entropy_threshold": 0.0,
            "max_tokens": Settings.model_fields["max_reasoning_tokens"].default,
        },
    }
    return post(RERANK, json.dumps(body).encode())


def goodput(server: Server, sent: Sequence[bytes], seconds: float, rounds: int) -> list[Row]:
    runs: dict[int, list[Run]] = {count: [] for count in CONNECTIONS}
    for _ in progress(range(rounds), "goodput"):
        for count in CONNECTIONS:
            runs[count].append(closed_loop(server.port, sent, count, seconds, is_answer))
    rows = []
    for count, of_count in runs.items():
        in_time = median((run.good_ms <= DEADLINE_MS).sum() / run.seconds for run in of_count)
        rows.append({"connections": count, **_middle(of_count), "in_time_per_second": round(in_time, 1)})
    return rows


def greedy_neighbour(
    server: Server, sent: Sequence[bytes], large: bytes, seconds: float, rounds: int
) -> list[Row]:
    alone, beside = list[Run](), list[Run]()
    for _ in progress(range(rounds), "greedy neighbour"):
        alone.append(closed_loop(server.port, sent, NEIGHBOURS, seconds, is_answer))
        with _asking(server.port, large):
            beside.append(closed_loop(server.port, sent, NEIGHBOURS, seconds, is_answer))
    ratio = median(b.row()["p50_ms"] / a.row()["p50_ms"] for a, b in zip(alone, beside, strict=True))
    return [
        {"case": "alone", **_middle(alone), "times_alone": 1.0},
        {"case": "greedy neighbour", **_middle(beside), "times_alone": round(ratio, 2)},
    ]


def burst(server: Server, sent: Sequence[bytes], large: bytes, seconds: float) -> list[Row]:
    """17 huge requests at once, and what their neighbours get meanwhile."""
    found: list[Run] = []
    asking = Thread(target=lambda: found.append(send_all(server.port, [large] * HUGE, HUGE, is_answer)))
    asking.start()
    run = closed_loop(server.port, sent, NEIGHBOURS, seconds, is_answer)
    asking.join()
    return [{"case": "neighbours", **run.row()}, {"case": "huge requests", **found[0].row()}]


def stall(server: Server, sent: Sequence[bytes], seconds: float) -> Row:
    saturation = closed_loop(server.port, sent, 32, seconds, is_answer).per_second
    with _stalling(server):
        run = open_loop(server.port, sent, FRACTION * saturation, 3 * seconds, judge=is_answer)
    return {"offered_per_second": round(FRACTION * saturation, 1), **run.row()}


def _middle(runs: Sequence[Run]) -> Row:
    """The median round, by its rate."""
    return sorted((run.row() for run in runs), key=lambda row: row["per_second"])[len(runs) // 2]


def _ask(port: int, large: bytes) -> None:
    closed_loop(port, [large], HUGE, 3600.0)


@contextmanager
def _asking(port: int, large: bytes) -> Iterator[None]:
    """A greedy client, until the block ends."""
    process = multiprocessing.get_context("fork").Process(target=_ask, args=(port, large), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


@contextmanager
def _stalling(server: Server) -> Iterator[None]:
    """Stop the server for a moment, over and over, until the block ends."""
    ended = Event()

    def stop_and_go() -> None:
        while not ended.wait(STALL_EVERY_S):
            os.kill(server.process.pid, signal.SIGSTOP)
            ended.wait(STALL_S)
            os.kill(server.process.pid, signal.SIGCONT)

    thread = Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def measure(bundle: Path, seconds: float, rounds: int, command: Callable[[Path], list[str]]) -> Row:
    """All of it."""
    pin_client()
    load = workload(bundle)
    sent, large = [post(RERANK, body) for body in load.bodies], huge(bundle)
    with running("overload", command(bundle), sent[0]) as server:
        good = goodput(server, with_deadline(load.bodies, DEADLINE_MS), seconds, rounds)
        greedy = greedy_neighbour(server, sent, large, seconds, rounds)
        at_once = burst(server, sent, large, seconds)
        stalled = stall(server, sent, seconds)
    rates = {row["connections"]: row["in_time_per_second"] for row in good}
    return {
        "goodput": good,
        "goodput_ratio": round(rates[200] / rates[5], 3),
        "greedy": greedy,
        "greedy_ratio": greedy[1]["times_alone"],
        "burst": at_once,
        "stall": stalled,
        "stall_failed": stalled["failed"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    results = measure(arguments.bundle.resolve(), arguments.seconds, arguments.rounds, ours)
    path = keep(
        "overload", results, "fastapi", "uvicorn", "numba", command="python -m bench.overload --bundle DIR"
    )
    console.print(
        f"{path}: goodput at 200 connections {results['goodput_ratio']} of that at 5; p50 beside a greedy "
        f"client {results['greedy_ratio']} times that alone; {results['stall_failed']} failed around stalls"
    )


if __name__ == "__main__":
    main()
