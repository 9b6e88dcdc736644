"""Run the evidence: `python -m evidence` (or `make evidence`); finished fits are kept and never repeated.

Every fit is a process of its own (`python -m evidence.fit`) with one thread, and resumes where it was killed.
The rows of all finished fits are in docs/results/results.json after each of them, and a fit whose rows are
there, with today's configuration, is finished, whatever machine it was run on. `--again` repeats those too:
what they leave behind (policies, for evidence.timing) is not stored with the project. With
`--ray ADDRESS` the fits are tasks of a Ray cluster, with the same rows.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from bundle.errors import faults_told
from evidence.alone import fit_alone
from evidence.data import DATA
from evidence.fit import ROWS
from evidence.grid import MODELS, SEEDS, Task, tasks
from evidence.results import RESULTS, Results, collect, load
from evidence.tables import REFERENCE, plain
from model.progress import console

RUNS = Path("runs/evidence")
QUICK_DATA, QUICK_RESULTS = "simulator", Path("reports/evidence")
QUICK_MODELS = ["EGLR", "without reasoning", "self-attention, 2 layers", "PRM", "LambdaMART", "initial order"]
"""One seed proves nothing: quick results are shown, and stored apart from those of the project."""

Fit = Callable[[Task, Path], None]
"""Fits a task below a directory; raises where it fails."""


def run(todo: list[Task], root: Path, jobs: int, results: Path, again: bool, fit: Fit = fit_alone) -> int:
    """Run the fits that are not finished yet, `jobs` at a time. Returns how many failed."""
    known = load(results)
    missing = [
        task
        for task in todo
        if (again or not known.is_current(task)) and not (root / task.directory / ROWS).exists()
    ]
    console.print(f"{len(todo) - len(missing)} of {len(todo)} fits are finished")
    started, failed = time.monotonic(), 0
    pool = ThreadPoolExecutor(max(jobs, 1))
    try:
        running: dict[Future[None], Task] = {pool.submit(fit, task, root): task for task in missing}
        for done, future in enumerate(as_completed(running), start=1):
            task = running[future]
            error = future.exception()
            failed += error is not None
            elapsed = time.monotonic() - started
            left = elapsed / done * (len(missing) - done)
            console.print(
                f"{done}/{len(missing)}  {task.data}, {task.model}, seed {task.seed}, training seed "
                f"{task.training_seed}: {'done' if error is None else escape(f'FAILED {error}')}  "
                f"({elapsed / 60:.0f} min, about {left / 60:.0f} min left)"
            )
            collect(root, results)
    finally:  # Ctrl-C begins no more of them
        pool.shutdown(wait=False, cancel_futures=True)
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


def on_ray(address: str) -> AbstractContextManager[Fit]:
    """Raises: SystemExit: Ray is not installed."""
    try:
        from evidence.on_ray import fitting_on
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}: install the extra `ray`") from None
    return fitting_on(address)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evidence", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA))
    parser.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL", help="only these")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="number of seeds, from the first")
    parser.add_argument(
        "--training-seeds", type=int, default=1, help="number of trainings of what decides, for every seed"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one data set, one seed, only the models that decide"
    )
    parser.add_argument(
        "--again", action="store_true", help="repeat fits whose rows are already in the results"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, each with one thread")
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="fit on the Ray cluster there (host:port, or auto), on as many processors as it has; "
        "`local` starts one here",
    )
    parser.add_argument("--runs", type=Path, default=RUNS, help="where finished fits are kept")
    parser.add_argument("--results", type=Path, help="directory of results.json; docs/results when not given")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.data, arguments.models, arguments.seeds = [QUICK_DATA], QUICK_MODELS, 1
    results = arguments.results or (QUICK_RESULTS if arguments.quick else RESULTS)
    todo = [
        task
        for task in tasks(arguments.data, range(arguments.seeds), arguments.training_seeds)
        if not arguments.models or task.model in arguments.models
    ]
    fitting = nullcontext(fit_alone) if arguments.ray is None else on_ray(arguments.ray)
    jobs = arguments.jobs if arguments.ray is None else len(todo)  # Ray says which of them run
    with faults_told(), fitting as fit:
        failed = run(todo, arguments.runs, jobs, results, arguments.again, fit)
    show(Results(load(results)), arguments.data)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
