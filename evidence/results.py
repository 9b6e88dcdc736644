"""The rows of all finished fits, and paired comparisons between them.

`results.json` is a list with one row a run; `values.npz` holds, for each row, the comparison's metric of
every test list, which the paired intervals are made of. Legend: B lists.
"""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evidence.data import DATA
from evidence.fit import ROWS, VALUES
from evidence.grid import TRAININGS
from model.metrics import Interval, paired_difference
from model.training.checkpoint import save_text

RESULTS = Path("docs/results")

Row = dict[str, Any]
Values = dict[str, NDArray[np.float32]]


def key(row: Row) -> str:
    """What tells a row from all others."""
    return "|".join(str(row[name]) for name in ("dataset", "model", "control", "seed"))


def collect(root: Path, target: Path = RESULTS) -> None:
    """Merge the finished fits under `root` into the results that are stored with the project."""
    target.mkdir(parents=True, exist_ok=True)
    rows, values = load(target)
    for path in sorted(root.glob(f"*/*/*/{ROWS}")):
        with np.load(path.with_name(VALUES)) as found:
            for row in json.loads(path.read_text()):
                timed = rows.get(key(row), {})
                row = {name: timed.get(name) for name in ("ms_per_list", "ms_native")} | row
                rows[key(row)] = row
                own = row["control"] or ""
                values[key(row)] = found[own]
    save(rows, values, target)


def save(rows: dict[str, Row], values: Values, target: Path = RESULTS) -> None:
    """Write what `load` reads."""
    save_text(target / "results.json", json.dumps([rows[name] for name in sorted(rows)], indent=1) + "\n")
    partial = target / "partial.npz"
    np.savez_compressed(
        partial, allow_pickle=False, **{name: np.round(values[name], 4) for name in sorted(values)}
    )
    os.replace(partial, target / "values.npz")


def load(target: Path = RESULTS) -> tuple[dict[str, Row], Values]:
    """Rows and per-list values by key; both empty where there are none."""
    path = target / "results.json"
    if not path.exists():
        return {}, {}
    with np.load(target / "values.npz") as values:
        return {key(row): row for row in json.loads(path.read_text())}, dict(values)


def difference(values: Values, ours: list[str], others: list[str]) -> Interval:
    """Paired difference over the lists of all runs; each of ours has its pair among the others."""
    return paired_difference([values[a] - values[b] for a, b in zip(ours, others, strict=True)])


class Results:
    """All rows, found by data set, model and control."""

    def __init__(self, rows: dict[str, Row], values: Values) -> None:
        self.rows, self.values = rows, values
        self._keys: dict[tuple[str, str, str | None], dict[int, str]] = defaultdict(dict)
        for name, row in rows.items():
            self._keys[row["dataset"], row["model"], row["control"]][row["seed"]] = name

    def runs(self, data: str, model: str, control: str | None = None) -> list[Row]:
        return [self.rows[name] for name in self._keys.get((data, model, control), {}).values()]

    def mean(self, data: str, model: str, control: str | None, metric: str) -> float:
        """Mean over runs; NaN without any."""
        found = [
            row["metrics"][metric] for row in self.runs(data, model, control) if metric in row["metrics"]
        ]
        return float(np.mean(found)) if found else float("nan")

    def gap(self, data: str, ours: tuple[str, str | None], other: tuple[str, str | None]) -> Interval | None:
        """Paired difference in the data set's metric over the seeds both have, with its interval."""
        mine, theirs = self._keys.get((data, *ours), {}), self._keys.get((data, *other), {})
        seeds = sorted(set(mine) & set(theirs))
        if not seeds:
            return None
        return difference(self.values, [mine[s] for s in seeds], [theirs[s] for s in seeds])

    def models(self, data: str) -> list[tuple[str, str | None]]:
        """(model, control) of everything on the data set, best first; equals by name."""
        found = {(model, control) for dataset, model, control in self._keys if dataset == data}
        return sorted(
            found, key=lambda pair: (-self.mean(data, pair[0], pair[1], DATA[data].metric), str(pair))
        )

    def controls(self, data: str) -> list[tuple[str, str | None]]:
        """(model, control) of everything on the data set that is a control of something."""
        found = [pair for pair in self.models(data) if pair[1]]
        return sorted(found, key=lambda pair: list(TRAININGS).index(pair[0]))
