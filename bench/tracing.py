"""What tracing costs: CPU of a request without it, with a tenth of the requests traced, with all of them.

    python -m bench.tracing bundles/ranklens

Three servers side by side take turns, one request at a time; each figure is the median over the turns of the
server's CPU time, its exporter's thread included. The spans go to a collector that drops them.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from timeit import repeat
from typing import Any, get_args

from bench.client import post, send_all
from bench.machine import keep
from bench.payloads import workload
from bench.servers import RERANK, is_answer, ours, pin_client, running
from export.provenance import hardware
from service.errors import Stage
from service.observe.tracing import CURRENT, RequestRecord

TURNS, REQUESTS = 12, 512
STAGES = get_args(Stage)


class _Collector(BaseHTTPRequestHandler):
    """Takes everything, keeps nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def collector() -> Iterator[str]:
    """Address of a running collector."""
    with HTTPServer(("127.0.0.1", 0), _Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def measure(bundle: Path) -> dict[str, float]:
    """Microseconds of CPU a request, by how much is traced."""
    requests = [post(RERANK, body) for body in workload(bundle).bodies[:REQUESTS]]
    pin_client()
    with ExitStack() as open_until_done:
        endpoint = open_until_done.enter_context(collector())
        settings: dict[str, dict[str, object]] = {
            "off": {},
            "a_tenth": {"otel_endpoint": endpoint, "otel_sample_ratio": 0.1},
            "all": {"otel_endpoint": endpoint},
        }
        servers = {
            name: open_until_done.enter_context(
                running(f"tracing-{name}", ours(bundle, default_deadline_ms=20_000, **given), requests[0])
            )
            for name, given in settings.items()
        }
        spent: dict[str, list[float]] = {name: [] for name in servers}
        for turn in range(TURNS + 1):
            for name, server in servers.items():
                before = server.cpu_seconds()
                if send_all(server.port, requests, judge=is_answer).failed:
                    raise RuntimeError(f"{name}: not every request was answered")
                if turn:  # the first one warms up
                    spent[name].append((server.cpu_seconds() - before) / len(requests) * 1e6)
    return {name: round(median(turns), 1) for name, turns in spent.items()}


def hooks() -> float:
    """Microseconds that a request spends on tracing and logs although they are off."""
    scope = {"state": {"request_id": "r"}, "headers": [], "path": RERANK, "method": "POST"}

    def request() -> None:
        record = RequestRecord(scope)
        token = CURRENT.set(record)
        for stage in STAGES:
            CURRENT.get()
            record.stage(stage, 0.0, 1.0)
        CURRENT.reset(token)

    return round(min(repeat(request, number=10_000, repeat=5)) / 10_000 * 1e6, 2)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tracing", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path)
    options = parser.parse_args(arguments)
    spent = measure(options.bundle)
    results = {"cpu_us_a_request": spent, "hooks_when_off_us": hooks()}
    keep("tracing", results, "opentelemetry-sdk", command="python -m bench.tracing bundles/ranklens")
    print(
        f"{hardware()}: CPU a request, microseconds: {spent}; hooks when off {results['hooks_when_off_us']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
