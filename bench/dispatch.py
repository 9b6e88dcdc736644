"""What routes in front of FastAPI buy: `python -m bench.dispatch BUNDLE`.

Two servers side by side: the service as it is, and the same with its rerank routes served by FastAPI, as all
others are. Requests a second and CPU a request, in rounds that alternate; each figure is the median, and so
is the ratio of the two within a round.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.client import closed_loop
from bench.machine import hardware, keep
from bench.payloads import workload
from bench.servers import is_answer, ours, pin_client, running, tell_users
from bench.serving import Row, cost, requests

CONNECTIONS, ROUNDS, SECONDS = (1, 32), 20, 0.7


def serve_through_fastapi(arguments: list[str]) -> int:
    """`python -m service` without routes in front of FastAPI."""
    from fastapi import APIRouter, FastAPI
    from fastapi.routing import APIRoute
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    import service.app
    from service.__main__ import main as serve

    def behind(front: Sequence[BaseRoute], app: FastAPI) -> ASGIApp:
        ordinary = APIRouter()
        for route in front:
            assert isinstance(route, APIRoute)
            ordinary.add_api_route(route.path, route.endpoint, methods=list(route.methods))
        app.include_router(ordinary)
        return app.build_middleware_stack()

    service.app.in_front = behind
    return serve(arguments)


def measure(bundle: Path) -> dict[str, dict[str, float]]:
    """Figures by number of connections."""
    pin_client()
    load = workload(bundle)
    sent = requests(load)
    front_command = ours(bundle, default_deadline_ms=20_000)  # a busy machine may stall, but none gives up
    behind_command = [sys.executable, "-m", "bench.dispatch", "--serve", *front_command[3:]]
    rows: dict[int, list[tuple[Row, Row]]] = {connections: [] for connections in CONNECTIONS}
    with (
        running("dispatch-front", front_command, sent[0]) as front,
        running("dispatch-behind", behind_command, sent[0]) as behind,
    ):
        for server in (front, behind):
            tell_users(server, load)
        for number in range(ROUNDS + 1):
            order = (front, behind) if number % 2 else (behind, front)
            for connections, found in rows.items():
                pair = {
                    server.name: cost(
                        server, partial(closed_loop, server.port, sent, connections, SECONDS, is_answer)
                    )
                    for server in order
                }
                if number:  # the first one warms up
                    found.append((pair[front.name], pair[behind.name]))
    return {f"c = {connections}": summary(found) for connections, found in rows.items()}


def summary(pairs: list[tuple[Row, Row]]) -> dict[str, Any]:
    """Medians of the rounds."""
    return {
        name: {
            "front": round(median(front[key] for front, _ in pairs), 1),
            "behind": round(median(behind[key] for _, behind in pairs), 1),
            "front_over_behind": round(median(front[key] / behind[key] for front, behind in pairs), 3),
        }
        for name, key in (("requests_per_second", "per_second"), ("cpu_us_a_request", "server_cpu_us"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.dispatch", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path)
    results = measure(parser.parse_args().bundle.resolve())
    keep("dispatch", results, "fastapi", "starlette", "uvicorn", command="python -m bench.dispatch BUNDLE")
    print(hardware())
    for connections, found in results.items():
        print(connections, found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        sys.exit(serve_through_fastapi(sys.argv[2:]))
    main()
