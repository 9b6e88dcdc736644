"""What metrics cost: `python -m bench.metrics_cost bundles/ranklens`, the service with and without them.

CPU time of the whole server process per rerank, from its socket to its answer, in alternating rounds. The
service without metrics is the same one with instruments that do nothing and stages that are not timed. Also
in prometheus_client's multiprocess mode, as one of several workers would run.
"""

import argparse
import os
import statistics
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.client import post, send_all
from bench.machine import keep
from bench.payloads import workload
from bench.servers import RERANK, Server, is_answer, ours, pin_client, running, tell_users
from service.observe.instruments import Counter, Gauge, Histogram, Labelled
from service.observe.metrics import Metrics

ROUNDS, REQUESTS, SIZES = 20, 200, (24,)


class Nothing:
    """An instrument that counts nothing."""

    def labels(self, *_: str) -> "Nothing":
        return self

    def nothing(self, *_: Any) -> None:
        pass

    inc = dec = set = observe = set_function = nothing


class Silent(Metrics):
    """Metrics that are off. Timing the stages counts as their cost."""

    def __init__(self) -> None:
        super().__init__()
        for name, value in list(vars(self).items()):
            if isinstance(value, Counter | Gauge | Histogram | Labelled):
                setattr(self, name, Nothing())

    def stage(self, *_: Any) -> AbstractContextManager[None]:
        return _NO_STAGE

    def nothing(self, *_: Any) -> None:
        pass

    stage_took = slate = model = nothing


_NO_STAGE = nullcontext()


def serve_silently(arguments: list[str]) -> int:
    """`python -m service` without metrics."""
    import service.app
    from service.__main__ import main as serve

    service.app.Metrics = Silent  # type: ignore[misc]
    return serve(arguments)


def us_of_cpu(server: Server, requests: list[bytes]) -> float:
    """Microseconds of the server's CPU time a request."""
    before = server.cpu_seconds()
    if send_all(server.port, requests, judge=is_answer).failed:
        raise RuntimeError(f"{server.name} did not answer every request")
    return 1e6 * (server.cpu_seconds() - before) / len(requests)


def measure(bundle: Path, shared: bool) -> dict[str, float]:
    """Means of all rounds; the kernel counts CPU time in steps of 10 ms, too coarse for one round alone."""
    load = workload(bundle, sizes=SIZES)
    requests = [post(RERANK, load.bodies[n % len(load.bodies)]) for n in range(REQUESTS)]
    on_command = ours(
        bundle, default_deadline_ms=60_000
    )  # on a busy machine requests may stall, but none times out
    off_command = [sys.executable, "-m", "bench.metrics_cost", "--serve-silently", *on_command[3:]]
    with TemporaryDirectory() as directory:
        environment = {"PROMETHEUS_MULTIPROC_DIR": directory} if shared else {}
        with (
            running("metrics-on", on_command, requests[0], environment) as on,
            running("metrics-off", off_command, requests[0]) as off,
        ):
            for server in (on, off):
                tell_users(server, load)
                us_of_cpu(server, requests)
            rounds = [(us_of_cpu(on, requests), us_of_cpu(off, requests)) for _ in range(ROUNDS)]
    on_us, off_us = (statistics.fmean(column) for column in zip(*rounds, strict=True))
    return {
        "on_us": round(on_us, 1),
        "off_us": round(off_us, 1),
        "cost_us": round(on_us - off_us, 1),
        "cost_share": round((on_us - off_us) / on_us, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.metrics_cost", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("bundle", type=Path)
    bundle: Path = parser.parse_args().bundle
    pin_client()
    found = {"one worker": measure(bundle, False), "of several workers": measure(bundle, True)}
    table = Table(title=f"CPU of a rerank of {SIZES[0]} items, {ROUNDS} rounds of {REQUESTS}")
    for column in ("", "on, µs", "off, µs", "cost, µs", "share"):
        table.add_column(column, justify="right")
    for name, row in found.items():
        share = f"{row['cost_share']:.1%}"
        table.add_row(name, f"{row['on_us']}", f"{row['off_us']}", f"{row['cost_us']}", share)
    Console().print(table)
    keep("metrics_cost", found, "prometheus-client", command="python -m bench.metrics_cost BUNDLE")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve-silently"]:
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        sys.exit(serve_silently(sys.argv[2:]))
    main()
