"""The rows of all finished fits, and paired comparisons between them.

`results.json` is a list with one row a run; `values.npz` holds, for each row, the comparison's metric of
every test list, which the paired intervals are made of, and whose the lists are; `configurations.json` says
what the rows' configurations are. Legend: B lists.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from evidence.data import DATA
from evidence.fit import IDENTITY, PEOPLE, ROWS, VALUES
from evidence.grid import TRAININGS, Task
from evidence.intervals import Gap, Run, gap
from model.metrics import Interval, paired_difference
from model.training.checkpoint import save_text
from model.training.config import PhaseConfig, RunConfig

RESULTS = Path("docs/results")
CONTEXT = "context.json"

Row = dict[str, Any]
Values = dict[str, NDArray[Any]]


class Stored(NamedTuple):
    """Of all fits: rows and per-list values by key, and what each configuration says by its digest."""

    rows: dict[str, Row]
    values: Values
    configurations: dict[str, dict[str, Any]]

    def is_current(self, task: Task) -> bool:
        """Whether there are rows of the task as it is configured now."""
        return any(
            row["model"] == task.model and self.says_the_same(row, task)
            for row in self.rows.values()
            if (row["dataset"], row["seed"], row["training_seed"])
            == (task.data, task.seed, task.training_seed)
        )

    def says_the_same(self, row: Row, task: Task) -> bool:
        """Whether a row was run with what the task needs of its configuration; settings since then have their
        default."""
        stored = self.configurations.get(row["configuration"])
        if stored is None:
            return False
        own = {**task.identity, "run": task.needs(task.config)}
        try:
            recipe = stored["recipe"] and PhaseConfig.model_validate(stored["recipe"]).model_dump(mode="json")
            run = task.needs(RunConfig.model_validate(stored["run"]))
        except ValidationError:
            return False
        return {**stored, "run": run, "recipe": recipe} == own


def key(row: Row) -> str:
    """What tells a row from all others."""
    return "|".join(str(row[name]) for name in ("dataset", "model", "control", "seed", "training_seed"))


def key_of_people(data: str, seed: int) -> str:
    """Of whose the test lists are, in the values."""
    return f"people|{data}|{seed}"


def collect(root: Path, target: Path = RESULTS) -> None:
    """Merge the finished fits under `root` into the results that are stored with the project."""
    target.mkdir(parents=True, exist_ok=True)
    stored = load(target)
    # Of fits of one name the newest stays: what was run with an earlier configuration lies there too.
    for path in sorted(root.glob(f"*/*/*/{ROWS}"), key=lambda path: path.stat().st_mtime):
        with np.load(path.with_name(VALUES)) as found:
            for row in json.loads(path.read_text()):
                timed = stored.rows.get(key(row), {})
                row = {name: timed.get(name) for name in ("ms_per_list", "ms_native")} | row
                stored.rows[key(row)] = row
                stored.values[key(row)] = found[row["control"] or ""]
                stored.values[key_of_people(row["dataset"], row["seed"])] = found[PEOPLE]
                identity = json.loads(path.with_name(IDENTITY).read_text())
                stored.configurations[row["configuration"]] = identity
    save(stored, target)


def save(stored: Stored, target: Path = RESULTS) -> None:
    """Write what `load` reads."""
    rows, values, configurations = stored
    used = {row["configuration"] for row in rows.values()}
    lines = [f'"{name}": {json.dumps(configurations[name])}' for name in sorted(used & set(configurations))]
    save_text(target / "configurations.json", "{\n" + ",\n".join(lines) + "\n}\n")
    partial = target / "partial.npz"
    rounded = {name: values[name] for name in sorted(values) if name in rows or name.startswith("people|")}
    np.savez_compressed(
        partial,
        allow_pickle=False,
        **{n: v if v.dtype.kind == "i" else np.round(v, 4) for n, v in rounded.items()},
    )
    os.replace(partial, target / "values.npz")
    save_text(target / "results.json", json.dumps([rows[name] for name in sorted(rows)], indent=1) + "\n")


def load(target: Path = RESULTS) -> Stored:
    """Empty where there is nothing."""
    path = target / "results.json"
    if not path.exists():
        return Stored({}, {}, {})
    with np.load(target / "values.npz") as values:
        rows = {key(row): row for row in json.loads(path.read_text())}
        return Stored(rows, dict(values), json.loads((target / "configurations.json").read_text()))


def context_worth(target: Path = RESULTS) -> dict[str, Interval]:
    """Nats a position that the order and the neighbours of a list are worth to a click model, by data set, as
    `evidence.context` wrote them; empty where it was not run."""
    path = target / CONTEXT
    found = json.loads(path.read_text()) if path.exists() else {}
    return {name: Interval(row["gain"], row["low"], row["high"]) for name, row in found.items()}


def difference(values: Values, ours: list[str], others: list[str]) -> Interval:
    """Paired difference over the lists of all runs; each of ours has its pair among the others."""
    return paired_difference([values[a] - values[b] for a, b in zip(ours, others, strict=True)])


Which = tuple[str, str | None]
"""A model, and its control."""


class Results:
    """All rows, found by data set, model and control."""

    def __init__(self, stored: Stored) -> None:
        self.stored, self.rows = stored, stored.rows
        self._keys: dict[tuple[str, str, str | None], dict[Run, str]] = defaultdict(dict)
        self._marks: dict[tuple[str, str], str] = {}
        for name, row in self.rows.items():
            run = row["seed"], row["training_seed"]
            self._keys[row["dataset"], row["model"], row["control"]][run] = name

    def runs(self, data: str, model: str, control: str | None = None) -> list[Row]:
        return [self.rows[name] for name in self._keys.get((data, model, control), {}).values()]

    def mean(self, data: str, model: str, control: str | None, metric: str) -> float:
        """Mean over worlds or folds of the mean over trainings; NaN without any."""
        found: dict[int, list[float]] = defaultdict(list)
        for row in self.runs(data, model, control):
            if metric in row["metrics"]:
                found[row["seed"]].append(row["metrics"][metric])
        return float(np.mean([np.mean(values) for values in found.values()])) if found else float("nan")

    def gap(self, data: str, ours: Which, other: Which, other_data: str | None = None) -> Gap | None:
        """Paired difference in the data set's metric over the runs both have."""
        mine, theirs = self._keys.get((data, *ours), {}), self._keys.get((other_data or data, *other), {})
        both = sorted(set(mine) & set(theirs))
        if not both:
            return None
        values = self.stored.values
        differences = {run: values[mine[run]] - values[theirs[run]] for run in both}
        keys = {seed: key_of_people(data, seed) for seed, _ in both}
        people = {seed: values[name] for seed, name in keys.items() if name in values}
        return gap(differences, people, worlds_vary=DATA[data].known)

    def models(self, data: str) -> list[Which]:
        """(model, control) of everything on the data set, best first; equals by name."""
        found = {(model, control) for dataset, model, control in self._keys if dataset == data}
        return sorted(
            found, key=lambda pair: (-self.mean(data, pair[0], pair[1], DATA[data].metric), str(pair))
        )

    def controls(self, data: str) -> list[Which]:
        """(model, control) of everything on the data set that is a control of something."""
        found = [pair for pair in self.models(data) if pair[1]]
        return sorted(found, key=lambda pair: list(TRAININGS).index(pair[0]))

    def mark(self, data: str, model: str) -> str:
        """A dagger where rows were run with another configuration than the data set has now."""
        if (data, model) not in self._marks:
            rows = [row for row in self.rows.values() if (row["dataset"], row["model"]) == (data, model)]
            runs = {(row["seed"], row["training_seed"]): row for row in rows}
            current = all(
                self.stored.says_the_same(row, Task(data, model, *run)) for run, row in runs.items()
            )
            self._marks[data, model] = "" if current else " †"
        return self._marks[data, model]

    def provenance(self, data: str, models: Iterable[str]) -> str:
        """The commits that a table's rows come from."""
        runs = [row for row in self.rows.values() if row["dataset"] == data and row["model"] in set(models)]
        found = sorted({row["commit"] for row in runs})
        lines = [f"Commit{'s' * (len(found) > 1)}: {', '.join(found)}."]
        if any(name.endswith(("-dirty", "+")) for name in found):
            lines.append("`-dirty` or a plus: files differed from the commit.")
        if any(self.mark(data, model) for model in models):
            lines.append("†: with an earlier configuration of the model or of all baselines.")
        return " ".join(lines)
