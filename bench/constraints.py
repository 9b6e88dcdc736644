"""What constraints cost: `python -m bench.constraints --bundle bundles/ranklens`.

The same lists of 50 candidates with and without, one at a time, as the engine serves them, from arrays to
slates; the candidates are random ones of the catalogue and groups are random too, for a model sees none of
them. In rounds that alternate, CPU time of one thread.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from time import thread_time

import numpy as np
from rich.table import Table

from bench.engine import SEED, calibrated, draw_requests
from bench.machine import keep
from bundle.arrays import Arrays
from constraints.planning import Plan, plan
from constraints.rules import Cap, Constraints, Floor
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from engine.settings import SessionSettings
from model.progress import console, progress

CANDIDATES, LISTS, ROUNDS, GENRES = 50, 40, 30, 18
NONE = "none"


def genres(rng: np.random.Generator) -> np.ndarray:
    """`[GENRES, N]`: each candidate is in one to four of them, in few as often as films are."""
    popular = 1.0 / np.arange(1, GENRES + 1) ** 0.7
    members = np.zeros((GENRES, CANDIDATES), np.bool_)
    for candidate in range(CANDIDATES):
        several = rng.choice(4, p=(0.3, 0.4, 0.2, 0.1)) + 1
        members[rng.choice(GENRES, several, replace=False, p=popular / popular.sum()), candidate] = True
    return members


def cases(rng: np.random.Generator) -> dict[str, Constraints]:
    """What is asked, by what it is called in the table; what is excluded is no candidate."""
    of = genres(rng)
    pins = {0: 0}
    few = tuple(Cap(f"cap {g}", members, 3) for g, members in enumerate(of))
    apart = tuple(Cap(f"window {g}", members, 1, 3) for g, members in enumerate(of))
    early = (Floor("floor", of[1], 2, 5),)
    return {
        "a pinned item": Constraints(pins),
        "at most 3 of each genre": Constraints(caps=few),
        "at most 1 of each genre in any 3": Constraints(caps=apart),
        "at least 2 of one in the top 5": Constraints(floors=early),
        "all together": Constraints(pins, caps=(*few, *apart), floors=early),
    }


def measure(model: LoadedModel, rounds: int) -> dict[str, dict[str, float]]:
    """By case: microseconds a list, times that of none, and microseconds of planning."""
    requests = draw_requests(model, CANDIDATES, LISTS, SEED)
    length = min(model.manifest.slate_length, 10)
    without = replace(Controls.default(model.manifest, length), reasoning_budget=0)
    control = replace(
        Controls.default(model.manifest, length),
        entropy_threshold=calibrated(model, requests, without),
        lookahead=0,
    )
    rng = np.random.default_rng(SEED)
    asked = [{NONE: Constraints(), **cases(rng)} for _ in requests]
    names = list(asked[0])
    plans: dict[str, list[Plan | None]] = {name: [] for name in names}
    planning = dict.fromkeys(names, np.inf)
    for name in names:
        for _ in range(3):
            started = thread_time()
            plans[name] = [None if name == NONE else plan(of[name], CANDIDATES, length) for of in asked]
            planning[name] = min(planning[name], 1e6 * (thread_time() - started) / LISTS)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in progress(range(rounds + 1), "constraints"):
        for name in names:
            written = [_with(control, found) for found in plans[name]]
            seconds = _seconds(model, requests, written)
            if turn:  # the first warms up
                taken[name].append(1e6 * seconds / LISTS)
    return {
        name: {
            "us_per_request": round(float(np.median(taken[name])), 1),
            "times": round(float(np.median(np.array(taken[name]) / np.array(taken[NONE]))), 3),
            "planning_us": round(planning[name], 1) if name != NONE else 0.0,
        }
        for name in names
    }


def _with(control: Controls, found: Plan | None) -> Controls:
    return control if found is None else replace(control, slate_length=found.length, constraints=found)


def _seconds(model: LoadedModel, requests: list[Arrays], controls: list[Controls]) -> float:
    started = thread_time()
    for arrays, control in zip(requests, controls, strict=True):
        model.generate([arrays], [control])
    return thread_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.constraints", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    model = LoadedModel.open(arguments.bundle, SessionSettings(intra_op_threads=1))
    rows = measure(model, arguments.rounds)
    table = Table("asked", "µs a list", "times none", "µs to plan")
    for name, row in rows.items():
        table.add_row(name, *(str(row[key]) for key in ("us_per_request", "times", "planning_us")))
    console.print(table)
    command = "python -m bench.constraints --bundle DIR"
    console.print(str(keep("constraints", {"rows": rows}, "numpy", "numba", command=command)))


if __name__ == "__main__":
    main()
