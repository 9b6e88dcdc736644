"""Where a request's microseconds go: `python -m bench.stages --bundle DIR`.

CPU time is that of all threads of the server process, minus what they spend inside the engine's `run`:
everything but inference, from the socket to the answer. `bare` is the HTTP server itself: the same bodies,
read and answered at once. Each figure is from the one of `WINDOWS` windows with the least such CPU time,
because other processes on the machine can only add to it. Stages are wall-clock time as in `/metrics`, so at
c > 1 they include waiting. The last cases keep users in Redis, on the client's core.
"""

import argparse
import json
import sys
import time
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.request import urlopen

import numpy as np
import uvicorn
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from bench.client import closed_loop, is_ok, post
from bench.machine import keep
from bench.payloads import Workload, workload
from bench.servers import RERANK, Server, is_answer, pin_client, running, tell_users
from bundle.features.fitting import FittedFeatures
from bundle.manifest import FEATURES
from bundle.repository import locate
from engine import loaded_model
from launch.redis import RedisServer
from service.app import create_app
from service.errors import Stage
from service.settings import Settings

CONNECTIONS = (1, 8)
WINDOWS = 6
BARE = "/bare"
STAGES = get_args(Stage)
MARKS = {"ids, anonymous": 150, "features, anonymous": 230}


class Metered:
    """A runner that counts the CPU seconds spent inside it."""

    cpu_s = 0.0

    def __init__(self, runner: Any) -> None:
        self._runner, self.provider = runner, runner.provider

    def run(self, *arguments: Any) -> Mapping[str, NDArray[Any]]:
        started = time.thread_time()
        try:
            records: Mapping[str, NDArray[Any]] = self._runner.run(*arguments)
            return records
        finally:
            Metered.cpu_s += time.thread_time() - started


def serve(settings: Settings) -> None:
    """The service as it is, with a metered runner and a route that reports CPU seconds."""
    open_runner = loaded_model.open_runner
    loaded_model.open_runner = lambda *arguments: Metered(open_runner(*arguments))
    app = create_app(settings)

    @app.get("/cpu")
    async def cpu() -> dict[str, float]:
        return {"process": time.process_time(), "engine": Metered.cpu_s}

    async def with_bare(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") != BARE:
            await app(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    uvicorn.run(with_bare, port=settings.port, loop="uvloop", access_log=False, log_level="warning")


def cpu(server: Server) -> dict[str, float]:
    """CPU seconds so far, of the process and of the engine."""
    with urlopen(f"http://127.0.0.1:{server.port}/cpu") as answer:
        seconds: dict[str, float] = json.load(answer)
    return seconds


def walls(server: Server) -> dict[str, float]:
    """Wall seconds so far, by stage."""
    with urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        sample.labels["stage"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "rerank_stage_duration_seconds_sum"
    }


def measure(server: Server, case: str, load: Workload, connections: int, seconds: float) -> dict[str, Any]:
    """The best window."""
    windows = [window(server, case, load, connections, seconds / WINDOWS) for _ in range(WINDOWS)]
    return min(windows, key=lambda row: float(row["other_cpu_us"]))


def window(server: Server, case: str, load: Workload, connections: int, seconds: float) -> dict[str, Any]:
    bare = case == "bare"
    requests = [post(BARE if bare else RERANK, body) for body in load.bodies]
    # The CPU of a scrape is not a request's, so the scrapes stand outside.
    walls_before, before = walls(server), cpu(server)
    run = closed_loop(server.port, requests, connections, seconds, is_ok if bare else is_answer)
    after = cpu(server) | walls(server)
    before |= walls_before
    count = len(run.latencies_ms)
    spent = {name: round((after[name] - before.get(name, 0.0)) / count * 1e6, 1) for name in after}
    return {
        "case": case,
        "connections": connections,
        "body_bytes": round(sum(map(len, load.bodies)) / len(load.bodies)),
        "cpu_us": spent["process"],
        "engine_cpu_us": spent["engine"],
        "other_cpu_us": round(spent["process"] - spent["engine"], 1),
        "stages_us": {} if bare else {stage: spent[stage] for stage in STAGES},
        **run.row(),
    }


def anonymous(load: Workload) -> Workload:
    """The same lists, for anonymous users."""
    bodies = [json.loads(body) for body in load.bodies]
    for body in bodies:
        del body["user_id"]
    return Workload([json.dumps(body, separators=(",", ":")).encode() for body in bodies], {})


def as_matrix(load: Workload, bundle: Path) -> Workload:
    """The same lists with their numbers as one matrix; all else comes from the catalogue."""
    fitted = FittedFeatures.model_validate_json((locate(bundle) / FEATURES).read_bytes())
    fields = [field for field in fitted.feature_schema.of("item") if not field.is_token]
    names = [f"{f.name}[{i}]" if f.size else f.name for f in fields for i in range(f.columns)]
    bodies = []
    for body in map(json.loads, load.bodies):
        numbers = [_numbers(item["features"][field.name]) for item in body["items"] for field in fields]
        data = b64encode(np.concatenate(numbers, dtype="<f4").tobytes()).decode()
        items = [{"id": item["id"]} for item in body["items"]]
        sent = {**body, "items": items, "features_f32": {"names": names, "data": data}}
        bodies.append(json.dumps(sent, separators=(",", ":")).encode())
    return Workload(bodies, load.users)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, list):
        return value
    return [len(value) if isinstance(value, str) else value]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--redis-url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(
            Settings(
                bundle=options.bundle,
                port=options.serve,
                redis_url=options.redis_url,
                redis_socket_timeout_ms=1000,
                redis_pool_wait_ms=1000,
            )
        )
        return

    pin_client()
    sizes = (options.candidates,)
    ids, features = (workload(options.bundle, kind, sizes) for kind in ("ids", "features"))
    command = [sys.executable, "-m", "bench.stages", f"--bundle={options.bundle}", "--serve={port}"]
    probe = post(RERANK, ids.bodies[0])
    rows = []

    def cases(server: Server, loads: Mapping[str, Workload]) -> None:
        for case, load in loads.items():
            for connections in CONNECTIONS:
                rows.append(row := measure(server, case, load, connections, options.seconds))
                stages = "  ".join(f"{stage} {took:.0f}" for stage, took in row["stages_us"].items())
                print(f"{case:22} c={connections}  other CPU {row['other_cpu_us']:6.1f} us  {stages}")

    with running("stages", command, probe) as server:
        nobody = anonymous(features)
        cases(server, {"bare": ids, "ids, anonymous": anonymous(ids), "features, anonymous": nobody})
        cases(server, {"matrix, anonymous": as_matrix(nobody, options.bundle)})
        tell_users(server, ids)
        cases(server, {"ids, users": ids})
    with (
        RedisServer() as redis,
        running("stages-redis", [*command, f"--redis-url={redis.url}"], probe) as server,
    ):
        tell_users(server, ids)
        cases(server, {"ids, anonymous, Redis": anonymous(ids), "ids, users, Redis": ids})
    results = {"candidates": options.candidates, "marks_us": MARKS, "rows": rows}
    packages = ("fastapi", "msgspec", "numpy", "onnxruntime", "redis", "uvicorn")
    keep("stages", results, *packages, command="python -m bench.stages --bundle bundles/ranklens")


if __name__ == "__main__":
    main()
