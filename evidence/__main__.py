"""Run the evidence: `python -m evidence` (or `make evidence`); finished fits are kept and never repeated.

Every fit runs in a process of its own with one thread. The rows of all finished fits are in
docs/results/results.json after each of them.
"""

import argparse
import os
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from evidence.fit import ROWS, fit
from evidence.grid import DATA, SEEDS, Task, tasks
from evidence.results import collect
from model.progress import console

RUNS = Path("runs/evidence")


def run(todo: list[Task], root: Path, jobs: int) -> int:
    """Fit what is not finished yet. Returns the number of fits that failed."""
    missing = [task for task in todo if not (root / task.directory / ROWS).exists()]
    console.print(f"{len(todo) - len(missing)} of {len(todo)} fits are finished")
    started, failed = time.monotonic(), 0
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running: dict[Future[None], Task] = {pool.submit(fit, task, root): task for task in missing}
        for done, future in enumerate(as_completed(running), start=1):
            task = running[future]
            error = future.exception()
            failed += error is not None
            elapsed = time.monotonic() - started
            left = elapsed / done * (len(missing) - done)
            console.print(
                f"{done}/{len(missing)}  {task.data}, {task.model}, seed {task.seed}: "
                f"{'done' if error is None else f'FAILED {error!r}'}  "
                f"({elapsed / 60:.0f} min, about {left / 60:.0f} min left)"
            )
            collect(root)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evidence", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA))
    parser.add_argument("--models", nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="the first so many seeds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, of one thread each")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where finished fits are kept")
    arguments = parser.parse_args()
    todo = [
        task
        for task in tasks(arguments.data, range(arguments.seeds))
        if not arguments.models or task.model in arguments.models
    ]
    raise SystemExit(1 if run(todo, arguments.runs, arguments.jobs) else 0)


if __name__ == "__main__":
    main()
