"""What it is worth to send a user to the same of three replicas: `python -m bench.locality`.

HAProxy balances in turn, by the number of open requests, and by a consistent hash of the user. Closed loop
for throughput, then open loop, at the same rate for all, for latency; users by Zipf's law, as everywhere.
Contexts are in one Redis, whose commands are counted.
"""

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bench.client import closed_loop, open_loop, post
from bench.machine import ROOT, SERVER_CORE, keep, kept
from bench.payloads import workload
from bench.servers import RERANK, is_answer, ours, pin_client, running, tell_users
from evidence import pages
from launch.proxies import haproxy
from launch.redis import RedisServer
from launch.waiting import free_port
from model.progress import console, progress

Row = dict[str, Any]

REPLICAS, CONNECTIONS, FRACTION = 3, 16, 0.5
BALANCING = {
    "in turn": ("balance roundrobin",),
    "least busy (production)": (),
    "by user, consistent hash": (
        "http-request set-var(txn.user) req.body,json_query('$.user_id')",
        "balance hash var(txn.user)",
        "hash-type consistent",
    ),
}
PAGES = ("docs/deployment.md",)


@contextmanager
def on_the_servers_core() -> Iterator[None]:
    """What is started meanwhile runs there."""
    os.sched_setaffinity(0, {SERVER_CORE})
    try:
        yield
    finally:
        pin_client()


def answered_by(status: int) -> list[int]:
    """Requests that each replica has answered, as HAProxy counts them."""
    with urlopen(f"http://127.0.0.1:{status}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r'^haproxy_server_http_responses_total{[^}]*code="2xx"} (\d+)', text, re.MULTILINE)
    return [int(count) for count in found]


def measure(bundle: Path, seconds: float, rounds: int) -> list[Row]:
    pin_client()
    load = workload(bundle)
    sent = [post(RERANK, body) for body in load.bodies]
    with ExitStack() as stack:
        with on_the_servers_core():
            redis = stack.enter_context(RedisServer())
        command = ours(bundle, redis_url=redis.url, redis_socket_timeout_ms=500)
        replicas = [
            stack.enter_context(running(f"replica-{number}", command, sent[0])) for number in range(REPLICAS)
        ]
        tell_users(replicas[0], load)
        proxies = {}
        for name, lines in BALANCING.items():
            folder = ROOT / f"build/bench/{'-'.join(re.findall('[a-z]+', name))}"
            folder.mkdir(parents=True, exist_ok=True)
            with on_the_servers_core():
                status = free_port()
                ports = [replica.port for replica in replicas]
                proxies[name] = (stack.enter_context(haproxy(folder, ports, *lines, status=status)), status)
        closed: dict[str, list[Row]] = {name: [] for name in proxies}
        for _ in progress(range(rounds), "closed loop"):
            for name, (port, _) in proxies.items():
                closed[name].append(closed_loop(port, sent, CONNECTIONS, seconds, is_answer).row())
        best = {name: max(row["per_second"] for row in rows) for name, rows in closed.items()}
        rate = FRACTION * max(best.values())
        rows: dict[str, list[Row]] = {name: [] for name in proxies}
        for _ in progress(range(rounds), "open loop"):
            for name, (port, status) in proxies.items():
                before, done = answered_by(status), redis.client.info()["total_commands_processed"]
                row = open_loop(port, sent, rate, seconds, judge=is_answer).row()
                commands = redis.client.info()["total_commands_processed"] - done - 1
                each = [after - had for after, had in zip(answered_by(status), before, strict=True)]
                row["busiest_share"] = round(max(each) / sum(each), 3)
                row["redis_commands"] = round(commands / row["requests"], 2)
                rows[name].append(row)
    return [
        {
            "balancing": name,
            "closed_per_second": best[name],
            "offered_per_second": round(rate, 1),
            **min(of, key=lambda row: row["p99_ms"]),
        }
        for name, of in rows.items()
    ]


def blocks() -> dict[str, str]:
    """Of docs/deployment.md, from what is stored."""
    results = kept("locality")
    if results is None:
        return {"locality": "Not measured yet."}
    header = (
        "balancing",
        "most requests/s",
        "p50 ms",
        "p99 ms",
        "failed",
        "busiest replica",
        "Redis commands each",
    )
    rows = [
        (
            row["balancing"],
            f"{row['closed_per_second']:.0f}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            row["failed"],
            f"{100 * row['busiest_share']:.0f} %",
            f"{row['redis_commands']:.2f}",
        )
        for row in results["rows"]
    ]
    rate = f"Latencies at {results['rows'][0]['offered_per_second']:.0f} requests/s, an open loop."
    told = f"{rate} {results['hardware']}; commit {results['commit']}."
    return {"locality": pages.table(header, rows) + "\n\n" + told}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.locality", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ranklens"))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    arguments = parser.parse_args()
    rows = measure(arguments.bundle.resolve(), arguments.seconds, arguments.rounds)
    path = keep("locality", {"rows": rows}, "redis", command="python -m bench.locality")
    pages.write(PAGES, blocks())
    console.print(f"{path}, {', '.join(PAGES)}")


if __name__ == "__main__":
    main()
