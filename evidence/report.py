"""Tables and figures of docs/results.md, from the results alone: `python -m evidence.report`.

The page's prose is written by hand; what stands between `<!-- table: NAME -->` and `<!-- end -->` is
written here.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from evidence import figures
from evidence.data import DATA
from evidence.grid import TRAININGS
from evidence.references import REFERENCES
from evidence.results import RESULTS, Row, Values, difference, load
from model.baselines import BASELINES
from model.metrics import Interval
from model.progress import console

PAGE, IMAGES = Path("docs/results.md"), Path("docs/images")
OURS, REFERENCE = "EGLR", "without reasoning"
BACKBONES = {"GRU": ("EGLR", "without reasoning")} | {
    name: (f"EGLR, {name}", f"without reasoning, {name}") for name in ("LSTM", "Transformer")
}


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
        """(model, control) of everything on the data set, best first."""
        found = {(model, control) for dataset, model, control in self._keys if dataset == data}
        return sorted(found, key=lambda pair: -self.mean(data, pair[0], pair[1], DATA[data].metric))

    def controls(self, data: str) -> list[tuple[str, str | None]]:
        """(model, control) of everything on the data set that is a control of something."""
        found = [pair for pair in self.models(data) if pair[1]]
        return sorted(found, key=lambda pair: list(TRAININGS).index(pair[0]))


def plain(gap: Interval | None) -> str:
    """A difference with its interval."""
    return "" if gap is None else f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"


def shown(gap: Interval | None) -> str:
    """In bold where the interval leaves zero out."""
    return f"**{plain(gap)}**" if gap and (gap.low > 0 or gap.high < 0) else plain(gap)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main_table(results: Results, data: str) -> str:
    """Every model of the main table on one data set, best first."""
    metric = DATA[data].metric
    models = [name for name, training in TRAININGS.items() if training.control is None] + list(BASELINES)
    found = [model for model in models if results.runs(data, model)]
    found.sort(key=lambda model: -results.mean(data, model, None, metric))
    others = [name for name in ("ndcg@10", "ndcg@5", "map@10", "diversity") if name != metric]
    header = ["model", "runs", metric, "EGLR minus it [95 %]", *others, "tokens", *MILLISECONDS]
    rows = []
    for model in found:
        runs = results.runs(data, model)
        gap = None if model == OURS else results.gap(data, (OURS, None), (model, None))
        rows.append(
            [
                f"**{model}**" if model == OURS else model,
                str(len(runs)),
                f"{results.mean(data, model, None, metric):.4f}",
                shown(gap),
                *(f"{results.mean(data, model, None, name):.4f}" for name in others),
                f"{np.mean([row['tokens_per_list'] for row in runs]):.1f}",
                *milliseconds(runs),
            ]
        )
    return table(header, rows)


def possible_table(results: Results, data: str) -> str:
    """True values beside what is possible: the share is of the way from random order to the oracle's."""
    low, high = (results.mean(data, name, None, "true_value") for name in ("random order", "beam-16 oracle"))
    models = [name for name in (*REFERENCES, OURS, REFERENCE) if results.runs(data, name)]
    values = {name: results.mean(data, name, None, "true_value") for name in models}
    return table(
        ["lists by", "true value", "share of what is possible"],
        [
            [name, f"{value:.4f}", f"{(value - low) / (high - low):.1%}"]
            for name, value in sorted(values.items(), key=lambda entry: -entry[1])
        ],
    )


def backbone_table(results: Results) -> str:
    """Gain of reasoning on each backbone: trained with it against trained without it."""
    rows = []
    for data in DATA:
        for name, (ours, plain) in BACKBONES.items():
            gap = results.gap(data, (ours, None), (plain, None))
            if gap is not None:
                mean = results.mean(data, plain, None, DATA[data].metric)
                relative = f"{gap.mean / mean:+.2%}"
                rows.append([data, name, f"{mean:.4f}", shown(gap), relative])
    return table(["data", "backbone", "without reasoning", "gain of EGLR [95 %]", "relative"], rows)


def control_table(results: Results, data: str) -> str:
    """Every control against the same plain model and against EGLR."""
    metric = DATA[data].metric
    rows = []
    for model, control in [(OURS, None), *results.controls(data)]:
        runs = results.runs(data, model, control)
        rows.append(
            [
                model,
                control or "entropy gate, as trained",
                str(len(runs)),
                f"{results.mean(data, model, control, metric):.4f}",
                shown(results.gap(data, (model, control), (REFERENCE, None))),
                shown(None if control is None else results.gap(data, (OURS, None), (model, control))),
                f"{np.mean([row['tokens_per_list'] for row in runs]):.1f}",
                *milliseconds(runs),
            ]
        )
    header = [
        "model",
        "control",
        "runs",
        metric,
        "minus without reasoning",
        "EGLR minus it",
        "tokens",
        *MILLISECONDS,
    ]
    return table(header, rows)


MILLISECONDS = ("ms, graph", "ms, native")


def milliseconds(runs: list[Row]) -> list[str]:
    """Through the exported graph, and natively."""
    columns = ([row[name] for row in runs if row.get(name)] for name in ("ms_per_list", "ms_native"))
    return [f"{np.mean(times):.2f}" if times else "" for times in columns]


def write(page: Path, tables: dict[str, Callable[[], str]]) -> None:
    """Put each table between its marks.

    Raises:
        KeyError: the page names a table there is not.
    """

    def fill(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{tables[match[1]]()}\n<!-- end -->"

    text = re.sub(r"<!-- table: ([\w-]+) -->.*?<!-- end -->", fill, page.read_text(), flags=re.DOTALL)
    page.write_text(text)


def main() -> None:
    results = Results(*load(RESULTS))
    tables: dict[str, Callable[[], str]] = {"backbones": lambda: backbone_table(results)}
    for data in DATA:
        tables[f"possible-{data}"] = partial(possible_table, results, data)
        tables[f"main-{data}"] = partial(main_table, results, data)
        tables[f"controls-{data}"] = partial(control_table, results, data)
    write(PAGE, tables)
    IMAGES.mkdir(exist_ok=True)
    for name, draw in figures.FIGURES.items():
        draw(results, IMAGES / f"{name}.png")
    console.print(f"wrote {PAGE} and {len(figures.FIGURES)} figures")


if __name__ == "__main__":
    main()
