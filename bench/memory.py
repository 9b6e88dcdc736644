"""Resident memory of the service: `python -m bench.memory --bundle DIR`.

A hundred thousand requests of random N over HTTP, to a service whose store of recommendations is full after
warm-up (it is bounded, and its filling up would look like a leak), then a hundred swaps of two versions under
load, each in a process of its own. Growth is the most memory after warm-up over that at its end. Then
the settings of ONNX Runtime's allocator, each in a fresh process: memory after the same batches of random
sizes, and their time.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import psutil

from bench.client import send_all
from bench.machine import ROOT, keep
from bench.payloads import workload
from bench.servers import is_answer, ours, pin_client, running
from bench.serving import requests
from launch.bundles import copied
from model.progress import console, progress

REQUESTS, SAMPLES, SWAPS, BATCHES = 100_000, 100, 100, 3_000
WARM_UP = 0.1
"""Share of the requests, or of the swaps, that is warm-up."""
SIZES = tuple(int(size) for size in np.geomspace(5, 500, 60).round())
"""Candidates per request: from 5 to 500, short lists more often than long ones."""
CONNECTIONS = 8
RECOMMENDATIONS = 1000


def over_requests(bundle: Path, count: int) -> dict[str, Any]:
    """Resident MiB while `count` requests are answered."""
    sent = requests(workload(bundle, sizes=SIZES))
    resident, failed = [], 0
    with running(
        "memory",
        ours(bundle, default_deadline_ms=10_000, memory_max_recommendations=RECOMMENDATIONS),
        sent[0],
    ) as server:
        source = cycle(sent)
        for _ in progress(range(SAMPLES), "requests"):
            run = send_all(server.port, islice(source, count // SAMPLES), CONNECTIONS, is_answer)
            failed += run.failed
            resident.append(round(server.resident_mib(), 1))
    return {"requests": count, "failed": failed, **_flatness(resident)}


def _flatness(resident: Sequence[float]) -> dict[str, Any]:
    after = resident[int(WARM_UP * len(resident)) :]
    return {
        "after_warm_up_mib": after[0],
        "highest_mib": max(after),
        "growth": round(max(after) / after[0] - 1, 4),
        "resident_mib": list(resident),
    }


async def swap(bundle: Path, count: int) -> dict[str, Any]:
    """Resident MiB of this process while two versions of a bundle take turns, with reranks under way."""
    from service.app import create_app
    from service.serving.plan import Pin
    from service.settings import Settings

    bodies = cycle(workload(bundle).bodies)
    process, resident = psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        first, second = [Pin.of(copied(bundle, Path(folder), "model", version)) for version in ("1", "2")]
        app = create_app(Settings(bundle=first.folder))
        service = app.state.service
        async with app.router.lifespan_context(app):
            for pin in islice(cycle((second, first)), count):
                reranks = [asyncio.create_task(_rerank(service, next(bodies))) for _ in range(16)]
                await service.changes.make(lambda plan, pin=pin: plan.reloaded([pin]))
                answers = await asyncio.gather(*reranks)
                assert not any(answer.fallback for answer in answers), "a rerank was lost in a swap"
                resident.append(round(process.memory_info().rss / 2**20, 1))
    return {"swaps": count, **_flatness(resident)}


async def _rerank(service: Any, body: bytes) -> Any:
    from time import monotonic

    from service.api.decoding import parse
    from service.bodies.rerank import RerankRequest

    with service.models.get() as served:
        return await service.reranker.rerank(served, parse(RerankRequest, body), "bench", monotonic())


ALLOCATORS = {
    "as ONNX Runtime has it": {},
    "arena off": {"enable_cpu_mem_arena": False},
    "memory pattern off": {"enable_mem_pattern": False},
    "both off": {"enable_cpu_mem_arena": False, "enable_mem_pattern": False},
}


def allocator(bundle: Path, name: str, batches: int) -> dict[str, Any]:
    """Memory of this process after batches of random B and N, and microseconds per request."""
    from bench.peers.work import Work
    from engine import sessions

    plain = sessions.session_options

    def options(settings: Any) -> Any:
        made = plain(settings)
        for option, value in ALLOCATORS[name].items():
            setattr(made, option, value)
        return made

    sessions.session_options = options
    work = Work(bundle, "graph")  # native decoding hardly uses ONNX Runtime
    jobs = [work.prepare(body) for body in workload(bundle, sizes=SIZES).bodies]
    drawn, process = np.random.default_rng(0), psutil.Process()
    resident, answered, took = [], 0, 0.0
    for number in range(batches):
        batch = [jobs[index] for index in drawn.choice(len(jobs), drawn.integers(1, 17))]
        started = process_time()
        work.infer(batch)
        took, answered = took + process_time() - started, answered + len(batch)
        if number % (batches // SAMPLES) == 0:
            resident.append(round(process.memory_info().rss / 2**20, 1))
    return {"allocator": name, "us_per_request": round(1e6 * took / answered, 1), **_flatness(resident)}


def _in_fresh_processes(bundle: Path) -> Iterator[dict[str, Any]]:
    for name in progress(ALLOCATORS, "allocators"):
        yield _fresh(bundle, "--allocator", name)


def _fresh(bundle: Path, *arguments: str) -> dict[str, Any]:
    """This module's answer in a process of its own."""
    command = [sys.executable, "-m", "bench.memory", f"--bundle={bundle}", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--swaps", type=int, default=SWAPS)
    parser.add_argument("--allocator", help=argparse.SUPPRESS)
    parser.add_argument("--only-swap", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    bundle = arguments.bundle.resolve()
    if arguments.allocator:
        print(json.dumps(allocator(bundle, arguments.allocator, BATCHES)))
        return
    if arguments.only_swap:
        print(json.dumps(asyncio.run(swap(bundle, arguments.swaps))))
        return
    swaps = _fresh(bundle, "--only-swap", f"--swaps={arguments.swaps}")
    console.print(f"{arguments.swaps} swaps: {swaps['after_warm_up_mib']} to {swaps['highest_mib']} MiB")
    allocators = list(_in_fresh_processes(bundle))
    pin_client()
    served = over_requests(bundle, arguments.requests)
    results = {"requests": served, "swaps": swaps, "allocators": allocators}
    path = keep("memory", results, "onnxruntime", command="python -m bench.memory --bundle DIR")
    console.print(f"{path}: {served['after_warm_up_mib']} to {served['highest_mib']} MiB over requests")


if __name__ == "__main__":
    main()
