"""What re-ranking in bulk adds to the engine: `python -m bench.bulk --bundle DIR`.

The engine's own rate is that of one thread which has its requests in memory and makes lists of them, 64 at a
time: features, then slates. Bulk reads the same requests from Parquet, judges them as the service does, and
writes Parquet. CPU time of the whole process is counted, and the clock beside it; each has its best round,
for whatever else runs on the machine only slows it down.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time, time
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.machine import keep
from bundle.features.assembly import Candidates
from bundle.features.history import Interaction, UserContext
from bundle.repository import locate
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from export.bulk.job import Job
from export.bulk.lists import BATCH
from export.bulk.run import keep_garbage, run
from model.progress import console, progress
from service.settings import Settings

LISTS, ROUNDS, SEED, HISTORY = 3200, 5, 0, 50
SIZES = (24, 50, 100)
AT = 1.7e9


class Seconds(NamedTuple):
    """CPU of all threads, and by the clock."""

    cpu: float
    clock: float


def draw(model: LoadedModel, candidates: int, count: int = LISTS) -> list[dict[str, Any]]:
    """Rows: random candidates of the catalogue, and users who saw `HISTORY` items."""
    rng, ids = np.random.default_rng(SEED), np.array(model.features.catalogue.ids)
    liked = model.features.schema.positive_types[0]
    rows = []
    for number in range(count):
        past = rng.choice(ids, HISTORY).tolist()
        types = ["impression" if u > 0.3 else liked for u in rng.random(HISTORY)]
        rows.append(
            {
                "request_id": f"r{number}",
                "user_id": f"u{number}",
                "items": rng.choice(ids, candidates, replace=len(ids) < candidates).tolist(),
                "history": [
                    {"item_id": item, "type": kind, "timestamp": AT - HISTORY + place}
                    for place, (item, kind) in enumerate(zip(past, types, strict=True))
                ],
            }
        )
    return rows


def engine_alone(model: LoadedModel, rows: Sequence[dict[str, Any]]) -> Callable[[], object]:
    """Features and slates of requests that are in memory."""
    requests = [
        (
            Candidates(row["items"]),
            UserContext(history=tuple(Interaction(**event) for event in row["history"])),
        )
        for row in rows
    ]
    length = min(model.manifest.slate_length, len(rows[0]["items"]))
    controls = [Controls.default(model.manifest, length)] * BATCH

    def make() -> None:
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            inputs = [model.features.request(candidates, user, {}, AT) for candidates, user in batch]
            model.generate(inputs, controls[: len(batch)])

    return make


def in_bulk(
    model: LoadedModel, bundle: Path, rows: Sequence[dict[str, Any]], folder: Path
) -> Callable[[], object]:
    """The same from a file to a file."""
    source = folder / "requests.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), source)
    job = Job.open(bundle, str(source), folder / "lists", len(rows), AT, time())
    settings = Settings(**{"bundle": bundle})
    return lambda: list(run(job, job.parts, settings, model))


def timed(call: Callable[[], object]) -> Seconds:
    cpu, clock = process_time(), perf_counter()
    call()
    return Seconds(process_time() - cpu, perf_counter() - clock)


def measure(bundle: Path) -> list[dict[str, Any]]:
    """A row for each size of lists."""
    model, found = LoadedModel.open(bundle), []
    for candidates in SIZES:
        rows = draw(model, candidates)
        with tempfile.TemporaryDirectory() as folder:
            calls = {"engine": engine_alone(model, rows), "bulk": in_bulk(model, bundle, rows, Path(folder))}
            rounds = [
                {name: timed(call) for name, call in calls.items()} for _ in progress(range(ROUNDS), "bulk")
            ]
        best = {name: Seconds(*map(min, zip(*(one[name] for one in rounds), strict=True))) for name in calls}
        found.append(
            {
                "candidates": candidates,
                **{f"{name}_per_core_second": round(LISTS / best[name].cpu) for name in calls},
                **{f"{name}_per_second": round(LISTS / best[name].clock) for name in calls},
                "share_of_engine": round(best["engine"].cpu / best["bulk"].cpu, 3),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bulk", description=__doc__.split(":")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    bundle = locate(parser.parse_args().bundle)
    keep_garbage()
    rows = measure(bundle)
    for row in rows:
        console.print(row)
    settings = {"lists": LISTS, "batch": BATCH, "history": HISTORY, "rounds": ROUNDS}
    keep("bulk", {**settings, "rows": rows}, "numpy", "pyarrow", command="python -m bench.bulk --bundle DIR")


if __name__ == "__main__":
    main()
