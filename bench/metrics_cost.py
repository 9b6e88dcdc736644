"""What metrics cost: `python -m bench.metrics_cost bundles/ranklens`, the service with and without them.

CPU time of the whole server process a rerank, from its socket to its answer, in rounds that alternate. The
one without is the same service whose instruments do nothing and whose stages are not timed. Also as one of
several workers, each of which writes its figures to a file every second.
"""

import argparse
import statistics
import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.client import post, send_all
from bench.machine import keep
from bench.payloads import workload
from bench.servers import RERANK, Server, is_answer, ours, pin_client, running, tell_users
from service.observe.families import SUFFIX
from service.observe.instruments import Counter, Histogram, Labelled
from service.observe.metrics import Metrics
from service.observe.model_metrics import ModelMetrics

ROUNDS, REQUESTS, SIZES = 20, 200, (24,)


class Nothing:
    """An instrument that counts nothing."""

    def labels(self, *_: str) -> "Nothing":
        return self

    def nothing(self, *_: Any) -> None:
        pass

    inc = dec = set = observe = nothing


class Silent(Metrics):
    """Metrics that are off. Timing the stages counts as their cost."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path)
        silence(self)

    def for_model(self, name: str, version: str) -> ModelMetrics:
        model = super().for_model(name, version)
        silence(model)
        return model


def silence(metrics: Any) -> None:
    """Take its instruments away, and what it does with them."""
    nothing, no_stage = Nothing(), nullcontext()
    for name, value in list(vars(metrics).items()):
        if isinstance(value, Counter | Histogram | Labelled):
            setattr(metrics, name, nothing)
    metrics.stage = lambda *_: no_stage
    metrics.stage_took = metrics.slate = metrics.serving = metrics.refresh = nothing.nothing


def serve(kind: str, arguments: list[str]) -> int:
    """`python -m service`, `silent` or as the worker whose file this is."""
    import service.app
    from service.__main__ import main

    service.app.Metrics = Silent if kind == "silent" else lambda _: Metrics(Path(kind))  # type: ignore
    return main(arguments)


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
    on_command = ours(bundle, default_deadline_ms=60_000)  # a busy machine may stall, but none gives up
    serving = [sys.executable, "-m", "bench.metrics_cost"]
    off_command = [*serving, "--serve", "silent", *on_command[3:]]
    with TemporaryDirectory() as directory:
        if shared:
            file = Path(directory, "worker").with_suffix(SUFFIX)
            on_command = [*serving, "--serve", str(file), *on_command[3:]]
        with (
            running("metrics-on", on_command, requests[0]) as on,
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
    if sys.argv[1:2] == ["--serve"]:
        sys.exit(serve(sys.argv[2], sys.argv[3:]))
    main()
