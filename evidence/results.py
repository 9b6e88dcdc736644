"""The rows of all finished fits, and paired comparisons between them.

`results.json` is a list with one row a run; `values.npz` holds, for each row, the comparison's metric of
every test list, which the paired intervals are made of, and whose the lists are; `configurations.json` says
what the rows' configurations are. Legend: B lists.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from evidence.fit import IDENTITY, PEOPLE, ROWS, VALUES
from evidence.grid import Task, seedless
from model.metrics import Interval, paired_difference
from model.training.checkpoint import save_text
from model.training.config import PhaseConfig, RunConfig

RESULTS = Path("docs/results")

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
        """Whether a row was run with the task's configuration; settings since then have their default."""
        stored = self.configurations.get(row["configuration"])
        if stored is None:
            return False
        own = task.identity
        try:
            recipe = stored["recipe"] and PhaseConfig.model_validate(stored["recipe"]).model_dump(mode="json")
            run = seedless(RunConfig.model_validate(stored["run"]))
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
    """Merge the finished fits under `root` into the results that are kept with the project."""
    target.mkdir(parents=True, exist_ok=True)
    stored = load(target)
    for path in sorted(root.glob(f"*/*/*/{ROWS}")):
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


def difference(values: Values, ours: list[str], others: list[str]) -> Interval:
    """Paired difference over the lists of all runs; each of ours has its pair among the others."""
    return paired_difference([values[a] - values[b] for a, b in zip(ours, others, strict=True)])
