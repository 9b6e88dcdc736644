"""Memory and time of a log by its number of lists: `python -m bench.logs --folder DIR`.

The simulator writes it, as JSON lines or as Parquet; then, in a process of its own, it is read and checked,
its features are fitted, and its training lists are read once in batches, as an epoch reads them.
"""

import argparse
import json
import multiprocessing
import resource
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.machine import ROOT, keep
from model.data.__main__ import main as model_data
from model.progress import console

FORMATS = {"lines": ".jsonl", "parquet": ""}
BATCH = 64


def written(path: Path, lists: int) -> None:
    """By the command that users have."""
    import sys

    sys.argv = ["model.data", "simulate", "--lists", str(lists), "--out", str(path)]
    model_data()


def read(path: Path) -> dict[str, float]:
    """Seconds of each step on a log."""
    from model.data.check import check
    from model.data.features import DatasetFeatures
    from model.data.open_dataset import open_dataset
    from model.training.config import read_config
    from model.training.examples import batches, examples

    config = read_config(ROOT / "configs/simulator.toml", {"dataset": "event_log", "event_log": path})
    seconds, marks = {}, [perf_counter()]

    def done(step: str) -> None:
        marks.append(perf_counter())
        seconds[step] = round(marks[-1] - marks[-2], 1)

    dataset = open_dataset(config)
    done("read")
    check(dataset, config.features)
    done("check")
    features = DatasetFeatures.fit(dataset, config.features)
    done("fit")
    rows = examples(dataset.slates["train"], features, training=True)
    count = sum(len(batch.labels) for batch in batches(rows, BATCH))
    assert count == len(dataset.slates["train"])
    done("batches")
    return seconds


def alone(work: Callable[[], Any]) -> tuple[Any, float]:
    """What work gives, and the most memory, in GiB, of a process that does nothing else."""
    here, there = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_report, args=(work, there))
    process.start()
    there.close()
    result, peak = here.recv()
    process.join()
    return result, peak


def _report(work: Callable[[], Any], to: Any) -> None:
    result = work()
    to.send((result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def main() -> None:
    from functools import partial

    parser = argparse.ArgumentParser(prog="python -m bench.logs", description=__doc__.split(":")[0])
    parser.add_argument("--lists", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--folder", type=Path, required=True, help="where logs are written, and left")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for lists in arguments.lists:
        for form in arguments.formats:
            path = arguments.folder / f"{lists}{FORMATS[form]}"
            if not path.exists():
                alone(partial(written, path, lists))
            seconds, peak = alone(partial(read, path))
            rows.append({"lists": lists, "format": form, "peak_gib": round(peak, 2), "seconds": seconds})
            console.print(json.dumps(rows[-1]))
    command = "python -m bench.logs --folder DIR"
    console.print(str(keep("logs", {"rows": rows}, "numpy", "pyarrow", command=command)))


if __name__ == "__main__":
    main()
