"""Run the evidence: `python -m evidence` (or `make evidence`); finished fits are kept and never repeated.

Every fit runs in a process of its own with one thread. The rows of all finished fits are in
docs/results/results.json after each of them, and a fit whose rows are there is finished, whatever machine it
was run on. `--again` repeats those too: what they leave behind (policies, for evidence.timing) is not stored
with the project.
"""

import argparse
import os
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.table import Table

from evidence.data import DATA
from evidence.fit import ROWS, fit_alone
from evidence.grid import SEEDS, Task, tasks
from evidence.results import RESULTS, Results, collect, load
from evidence.tables import REFERENCE, plain
from model.progress import console

RUNS = Path("runs/evidence")
QUICK_DATA, QUICK_RESULTS = "simulator", Path("reports/evidence")
QUICK_MODELS = ["EGLR", "without reasoning", "self-attention, 2 layers", "PRM", "LambdaMART", "initial order"]
"""One seed proves nothing: quick results are shown, and stored apart from those of the project."""


def run(todo: list[Task], root: Path, jobs: int, results: Path, again: bool) -> int:
    """Run the fits that are not finished yet. Returns the number of fits that failed."""
    known = set() if again else {(r["dataset"], r["model"], r["seed"]) for r in load(results)[0].values()}
    missing = [
        task
        for task in todo
        if (task.data, task.model, task.seed) not in known and not (root / task.directory / ROWS).exists()
    ]
    console.print(f"{len(todo) - len(missing)} of {len(todo)} fits are finished")
    started, failed = time.monotonic(), 0
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running: dict[Future[None], Task] = {pool.submit(fit_alone, task, root): task for task in missing}
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
            collect(root, results)
    collect(root, results)
    return failed


def show(results: Results, names: list[str]) -> None:
    """Print what there is of each data set, best first."""
    for data in names:
        metric = DATA[data].metric
        table = Table(title=data)
        for column in ("model", "control", "runs", metric, "minus without reasoning", "tokens"):
            table.add_column(column)
        for model, control in results.models(data):
            runs = results.runs(data, model, control)
            table.add_row(
                model,
                control or "",
                str(len(runs)),
                f"{results.mean(data, model, control, metric):.4f}",
                plain(results.gap(data, (model, control), (REFERENCE, None))),
                f"{np.mean([row['tokens_per_list'] for row in runs]):.1f}",
            )
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evidence", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA))
    parser.add_argument("--models", nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="number of seeds, from the first")
    parser.add_argument(
        "--quick", action="store_true", help="one data set, one seed, only the models that decide"
    )
    parser.add_argument(
        "--again", action="store_true", help="repeat fits whose rows are already in the results"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, each with one thread")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where finished fits are kept")
    parser.add_argument("--results", type=Path, help="directory of results.json; docs/results when not given")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.data, arguments.models, arguments.seeds = [QUICK_DATA], QUICK_MODELS, 1
    results = arguments.results or (QUICK_RESULTS if arguments.quick else RESULTS)
    todo = [
        task
        for task in tasks(arguments.data, range(arguments.seeds))
        if not arguments.models or task.model in arguments.models
    ]
    failed = run(todo, arguments.runs, arguments.jobs, results, arguments.again)
    show(Results(*load(results)), arguments.data)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
