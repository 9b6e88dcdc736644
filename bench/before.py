"""This service beside an earlier one: `python -m bench.before [--commit 8683ae8]`; minutes.

Requests a second of both in rounds that alternate, one worker each, on one core. The earlier one's code is
taken from the repository's history, its packages are today's. Both serve the bundle that it trains quickly
and exports, for old code cannot read new bundles.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.table import Table

from bench.client import closed_loop, post
from bench.machine import ROOT, keep
from bench.payloads import workload
from bench.servers import RERANK, is_answer, ours, pin_client, running, tell_users
from bundle.repository import locate
from model.progress import console, progress

COMMIT = "8683ae8"
"""Before there were keys, limits of connections, costs and fairness between callers."""

CONNECTIONS, ROUNDS, SECONDS = (1, 8, 32), 12, 2.0


def measure(commit: str) -> list[dict[str, Any]]:
    """Of each number of connections: medians of both, and of their ratio within a round.

    Raises:
        subprocess.CalledProcessError: the repository's history has no such commit, or its training failed.
    """
    with TemporaryDirectory() as directory:
        root = Path(directory)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", root], input=archive.stdout, check=True)
        bundle = _exported(root)
        load = workload(bundle)
        requests, command = [post(RERANK, body) for body in load.bodies], ours(bundle)
        with (
            running("before", command, requests[0], root=root) as before,
            running("now", command, requests[0]) as now,
        ):
            for server in (before, now):
                tell_users(server, load)
            pin_client()
            return _raced((before.port, now.port), requests)


def _exported(root: Path) -> Path:
    """A bundle of the code there, trained quickly by it."""
    run, bundle = root / "runs/before", root / "bundles/before"
    data = {"EGLR_DATA_DIR": str(ROOT.parent / "shared/data")}  # where this checkout finds them, if unset
    environment = {**data, **os.environ, "PYTHONPATH": str(root)}
    for module, *options in (
        ("model.train", "--config", "configs/ranklens.toml", "--run", str(run), "--quick"),
        ("export", "--run", str(run), "--bundle", str(bundle)),
    ):
        subprocess.run([sys.executable, "-m", module, *options], cwd=root, check=True, env=environment)
    return locate(bundle)


def _raced(ports: tuple[int, int], requests: list[bytes]) -> list[dict[str, Any]]:
    rates: dict[int, list[list[float]]] = {connections: [] for connections in CONNECTIONS}
    failed = dict.fromkeys(CONNECTIONS, 0)
    for turn in progress(range(ROUNDS + 1), "rounds"):
        for connections in CONNECTIONS:
            of_round = [0.0, 0.0]
            for place in (0, 1) if turn % 2 else (1, 0):
                run = closed_loop(ports[place], requests, connections, SECONDS, is_answer)
                of_round[place] = run.per_second
                failed[connections] += run.failed
            if turn:  # the first warms up
                rates[connections].append(of_round)
    rows = []
    for connections, of_rounds in rates.items():
        (was, is_now), ratios = np.median(of_rounds, axis=0), [late / early for early, late in of_rounds]
        low, ratio, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        rows.append(
            {
                "connections": connections,
                "before_per_second": round(float(was), 1),
                "per_second": round(float(is_now), 1),
                "ratio": round(float(ratio), 3),
                "ratio_quartiles": [round(float(low), 3), round(float(high), 3)],
                "failed": failed[connections],
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.before", description=__doc__.split("\n\n")[0])
    parser.add_argument("--commit", default=COMMIT, help="of the earlier service")
    arguments = parser.parse_args()
    try:
        rows = measure(arguments.commit)
    except subprocess.CalledProcessError as error:
        console.print(f"{error}; is {arguments.commit} in the history of this clone?")
        return 2
    table = Table("c", "before, requests/s", "now", "ratio", "its quartiles", "failed")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
    results = {"against": arguments.commit, "rows": rows}
    keep("before", results, "fastapi", "uvicorn", command="python -m bench.before")
    return 0


if __name__ == "__main__":
    sys.exit(main())
