"""`python -m faults.soak` (or `make soak`): good and bad callers for a long time. Does the service grow?

Beside the ordinary callers there are lists of every length, invalid bodies, connections left half-way,
and people who are forgotten. Results are in docs/results/soak.json, their table is in docs/reliability.md.
"""

import argparse
import json
import random
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from evidence import pages
from export.provenance import commit, hardware
from faults import tables
from faults.scene import Scene
from faults.traffic import Caller
from launch.redis import RedisServer
from model.progress import console

LOGS = pages.ROOT / "build/faults/soak"
SAMPLES = 10
BAD_EVERY_S = 0.02


@dataclass(frozen=True)
class Sample:
    """Of the service's process, and of the keys in its store."""

    minutes: float
    resident_mib: float
    threads: int
    open_files: int
    keys: int


def soak(bundle: Path, minutes: float, logs: Path = LOGS) -> dict[str, Any]:
    """Samples, and what the ordinary callers saw."""
    logs.mkdir(parents=True, exist_ok=True)
    scene, over = Scene(bundle, logs, seconds=1.0), threading.Event()
    try:
        redis = scene.start(RedisServer())
        service = scene.serve("--redis-url", redis.url, "--max-history", "200")
        process, samples = psutil.Process(service.process.pid), []
        bad = threading.Thread(target=_misbehave, args=(service.port, scene.items, over), daemon=True)
        bad.start()
        started = monotonic()
        with scene.traffic(service.port):
            for number in range(SAMPLES + 1):
                sleep(max(0.0, started + 60 * minutes * number / SAMPLES - monotonic()))
                samples.append(
                    Sample(
                        minutes=round((monotonic() - started) / 60, 1),
                        resident_mib=round(process.memory_info().rss / 2**20, 1),
                        threads=process.num_threads(),
                        open_files=process.num_fds(),
                        keys=redis.client.dbsize(),
                    )
                )
                console.print(f"{number}/{SAMPLES}  {samples[-1]}")
        over.set()
        bad.join()
        tally = scene.tally
    finally:
        over.set()
        scene.close()
    seen = {name: getattr(tally, name) for name in ("sent", "answered", "degraded", "failed", "accepted")}
    return {
        "samples": [asdict(sample) for sample in samples],
        **seen,
        "p99_ms": round(tally.p99_ms, 1),
        "reasons": dict(tally.reasons),
    }


def _misbehave(port: int, known: Sequence[str], over: threading.Event) -> None:
    """In turn: a list of some length, an invalid body, a person who is forgotten, a body that is cut off."""
    chance, caller = random.Random(0), Caller([port])
    while not over.is_set():
        person = f"passing-{chance.randrange(1000)}"
        with suppress(OSError, HTTPException, ValueError):
            items = [{"id": one} for one in known[: chance.randint(1, 500)]]
            caller.ask("POST", "/v1/rerank", {"user_id": person, "items": items, "top_n": 20})
            caller.ask("POST", "/v1/rerank", {"items": [{}] * chance.randint(1, 5000)})
            caller.ask("DELETE", f"/v1/users/{person}/context")
            with socket.create_connection(("127.0.0.1", port), timeout=1) as cut:
                cut.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        sleep(BAD_EVERY_S)
    caller.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m faults.soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ranklens"), help="what is served")
    parser.add_argument("--minutes", type=float, default=15.0)
    arguments = parser.parse_args()
    found = soak(arguments.bundle, arguments.minutes)
    tables.SOAK.write_text(json.dumps({**found, "hardware": hardware(), "commit": commit()}, indent=1) + "\n")
    pages.write(tables.PAGES, tables.blocks())


if __name__ == "__main__":
    main()
