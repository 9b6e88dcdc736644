"""What the decision log costs: `python -m bench.decisions --bundle DIR`; minutes.

Requests a second, and CPU time a request, of the service with and without it, in rounds that alternate, one
worker each, on one core, packing of closed files included. Two processes of the same service differ by a
hundredth, for as long as they live: both are started anew several times. And the bytes of a line, as it is
written and packed, with ids alone and with every feature sent.
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
from isal import igzip
from rich.table import Table

from bench.client import closed_loop, post, send_all
from bench.machine import keep
from bench.payloads import Kind, Workload, workload
from bench.servers import RERANK, is_answer, ours, pin_client, running, tell_users
from bundle.repository import locate
from decisions.files import listed
from model.progress import console, progress
from service.observe.decision_files import LEVEL

CONNECTIONS, STARTS, ROUNDS, SECONDS, LINES = 32, 4, 4, 2.0, 500
PATIENCE_MS = 10_000
"""A busy machine may stall, but no request gives up."""
ROTATE_BYTES = 16 << 20
"""Small enough for files to be closed, and packed, within a run."""


def measure(bundle: Path, starts: int) -> dict[str, Any]:
    """Medians of both, and of their ratio within a round, with its quartiles."""
    load, found, failed = workload(bundle), [], 0
    for _ in progress(range(starts), "starts"):
        of_start, failed_then = measure_once(bundle, load)
        found += of_start
        failed += failed_then
    off_medians, on_medians = np.median(found, axis=0)
    low, ratio, high = np.quantile([late[0] / early[0] for early, late in found], (0.25, 0.5, 0.75))
    return {
        "connections": CONNECTIONS,
        "starts": starts,
        "off_per_second": round(float(off_medians[0]), 1),
        "per_second": round(float(on_medians[0]), 1),
        "ratio": round(float(ratio), 3),
        "ratio_quartiles": [round(float(low), 3), round(float(high), 3)],
        "off_cpu_us": round(float(off_medians[1])),
        "cpu_us": round(float(on_medians[1])),
        "failed": failed,
    }


def measure_once(bundle: Path, load: Workload) -> tuple[list[list[tuple[float, float]]], int]:
    """Requests/s and CPU microseconds a request, off and on, by round, of a process each; and failures."""
    requests = [post(RERANK, body) for body in load.bodies]
    found: list[list[tuple[float, float]]] = []
    failed = 0
    with TemporaryDirectory() as directory:
        logging = {"decision_log": directory, "decision_log_rotate_bytes": ROTATE_BYTES}
        with (
            running("decisions-off", ours(bundle, default_deadline_ms=PATIENCE_MS), requests[0]) as off,
            running(
                "decisions-on", ours(bundle, default_deadline_ms=PATIENCE_MS, **logging), requests[0]
            ) as on,
        ):
            for server in (off, on):
                tell_users(server, load)
            pin_client()
            for turn in range(ROUNDS + 1):
                of_round = [(0.0, 0.0)] * 2
                for place in (0, 1) if turn % 2 else (1, 0):
                    server = (off, on)[place]
                    before = server.cpu_seconds()
                    run = closed_loop(server.port, requests, CONNECTIONS, SECONDS, is_answer)
                    cpu_us = 1e6 * (server.cpu_seconds() - before) / len(run.latencies_ms)
                    of_round[place] = run.per_second, cpu_us
                    failed += run.failed
                if turn:  # the first warms up
                    found.append(of_round)
    return found, failed


def sizes(bundle: Path) -> list[dict[str, Any]]:
    """Mean bytes of a line, by what is sent."""
    rows = []
    for kind in get_args(Kind):
        load = workload(bundle, kind)
        requests = [post(RERANK, body) for body in load.bodies[:LINES]]
        with TemporaryDirectory() as directory:
            command = ours(bundle, decision_log=directory, decision_log_gzip=False)
            with running(f"decisions-{kind}", command, requests[0]) as server:
                tell_users(server, load)
                send_all(server.port, requests, judge=is_answer)
            text = b"".join(path.read_bytes() for path in listed(Path(directory)))
        lines = text.splitlines()[1:]  # but the probe's
        packed = len(igzip.compress(b"\n".join(lines), LEVEL)) / len(lines)
        sent = fmean(len(body) for body in load.bodies[:LINES])
        rows.append(
            {
                "kind": kind,
                "body": round(sent),
                "line": round(fmean(map(len, lines))),
                "packed": round(packed),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.decisions", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--starts", type=int, default=STARTS)
    arguments = parser.parse_args()
    bundle = locate(arguments.bundle)
    found = {"sizes": sizes(bundle), "rows": [measure(bundle, arguments.starts)]}
    for name, rows in found.items():
        table = Table(*rows[0], title=name)
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        console.print(table)
    keep("decisions", found, "msgspec", command="python -m bench.decisions --bundle DIR")
    return 0


if __name__ == "__main__":
    sys.exit(main())
