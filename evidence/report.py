"""Tables and figures of docs/results.md and README.md, from the results alone: `python -m evidence.report`.

Prose is written by hand; what stands between `<!-- table: NAME -->` and `<!-- end -->` is
written here.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from evidence import figures
from evidence.data import DATA, ONE, SAME_EVALUATORS
from evidence.grid import TRAININGS, Task
from evidence.intervals import Gap, Run, gap
from evidence.references import REFERENCES
from evidence.results import RESULTS, Row, Stored, key_of_people, load
from model.baselines import BASELINES
from model.progress import console

PAGES, IMAGES = (Path("docs/results.md"), Path("README.md")), Path("docs/images")
OURS, REFERENCE = "EGLR", "without reasoning"
RIVALS = (
    REFERENCE,
    "CMR-style",
    "CMR-style, same evaluators",
    "EG-Rerank",
    "LambdaMART",
    "initial score alone",
)
"""What decides: the same without reasoning, the best of others, what a team has already."""

BACKBONES = {"GRU": ("EGLR", "without reasoning")} | {
    name: (f"EGLR, {name}", f"without reasoning, {name}") for name in ("LSTM", "Transformer")
}


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
        """(model, control) of everything on the data set, best first."""
        found = {(model, control) for dataset, model, control in self._keys if dataset == data}
        return sorted(found, key=lambda pair: -self.mean(data, pair[0], pair[1], DATA[data].metric))

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
        if any(name.endswith("-dirty") for name in found):
            lines.append("`-dirty`: files differed from the commit.")
        if any(self.mark(data, model) for model in models):
            lines.append("†: with an earlier configuration of the model or of all baselines.")
        return " ".join(lines)


def counted(runs: list[Row]) -> str:
    """Runs, as worlds or folds times trainings where there are several."""
    worlds = len({row["seed"] for row in runs})
    return str(worlds) if worlds == len(runs) else f"{len(runs)} in {worlds}"


def plain(gap: Gap | None) -> str:
    """A difference with its intervals: the bootstrap's, then Student's over runs where there are some."""
    if gap is None:
        return ""
    text = f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
    if np.isnan(gap.low_of_runs):
        return text
    return f"{text} · [{gap.low_of_runs:+.4f}, {gap.high_of_runs:+.4f}]"


def shown(gap: Gap | None) -> str:
    """In bold where both intervals leave zero out."""
    return f"**{plain(gap)}**" if gap and gap.sure else plain(gap)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main_table(results: Results, data: str) -> str:
    """Every model of the main table on one data set, best first."""
    metric = DATA[data].metric
    models = [name for name, training in TRAININGS.items() if training.control is None]
    models += [*BASELINES, *SAME_EVALUATORS]
    found = [model for model in models if results.runs(data, model)]
    found.sort(key=lambda model: -results.mean(data, model, None, metric))
    others = [name for name in ("ndcg@10", "ndcg@5", "map@10", "diversity") if name != metric]
    header = ["model", "runs", metric, "EGLR minus it", *others, "tokens", *MILLISECONDS]
    rows = []
    for model in found:
        runs = results.runs(data, model)
        gap = None if model == OURS else results.gap(data, (OURS, None), (model, None))
        rows.append(
            [
                (f"**{model}**" if model == OURS else model) + results.mark(data, model),
                counted(runs),
                f"{results.mean(data, model, None, metric):.4f}",
                shown(gap),
                *(f"{results.mean(data, model, None, name):.4f}" for name in others),
                f"{np.mean([row['tokens_per_list'] for row in runs]):.1f}",
                *milliseconds(runs),
            ]
        )
    return table(header, rows) + "\n\n" + results.provenance(data, found)


def deciding_table(results: Results) -> str:
    """EGLR against what decides, on every data set."""
    rows = []
    for data in DATA:
        for model in RIVALS:
            found = results.gap(data, (OURS, None), (model, None))
            if found is None or (data.endswith(ONE) and results.runs(data.removesuffix(f"-{ONE}"), OURS)):
                continue
            mean = results.mean(data, model, None, DATA[data].metric)
            name = f"{data}, {DATA[data].metric.replace('_', ' ')}"
            against = model + results.mark(data, model)
            rows.append([name, against, f"{mean:.4f}", shown(found), f"{found.mean / mean:+.2%}"])
    return table(["data, measured in", "against", "it has", "EGLR minus it", ""], rows)


def steps_table(results: Results, data: str) -> str:
    """What each step of training brings, with reasoning and without, and how far the evaluators are from
    the truth about it."""
    earlier = f"{data}-{ONE}"
    steps: dict[str, tuple[str, str | None]] = {
        "one evaluator, imitation": (earlier, None),
        "the mean of three, imitation": (data, "imitation alone"),
        "+ one round of expert iteration": (data, "one round of expert iteration"),
        "+ a second round": (data, None),
    }
    rows = []
    before: tuple[str, str | None] | None = None
    for name, (where, control) in steps.items():
        if not results.runs(where, OURS, control):
            continue
        values = [
            f"{results.mean(where, model, control, metric):.4f}"
            for model in (OURS, REFERENCE)
            for metric in ("true_value", "evaluator_score")
        ]
        gain = results.gap(where, (OURS, control), (REFERENCE, control))
        step = before and results.gap(where, (OURS, control), (OURS, before[1]), before[0])
        rows.append([name, counted(results.runs(where, OURS, control)), *values, shown(gain), shown(step)])
        before = where, control
    header = ["trained as", "runs", "EGLR", "its evaluators say", "without reasoning", "its evaluators say"]
    return table([*header, "gain of reasoning", "EGLR minus the row above"], rows)


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
    return table(["data", "backbone", "without reasoning", "gain of EGLR", "relative"], rows)


def control_table(results: Results, data: str) -> str:
    """Every control against the same plain model and against EGLR."""
    metric = DATA[data].metric
    rows = []
    pairs = [(OURS, None)] * bool(results.runs(data, OURS)) + results.controls(data)
    for model, control in pairs:
        runs = results.runs(data, model, control)
        rows.append(
            [
                model + results.mark(data, model),
                control or "entropy gate, as trained",
                counted(runs),
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
    return table(header, rows) + "\n\n" + results.provenance(data, [model for model, _ in pairs])


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
    results = Results(load(RESULTS))
    tables: dict[str, Callable[[], str]] = {
        "deciding": lambda: deciding_table(results),
        "backbones": lambda: backbone_table(results),
    }
    for data in DATA:
        tables[f"possible-{data}"] = partial(possible_table, results, data)
        tables[f"main-{data}"] = partial(main_table, results, data)
        tables[f"steps-{data}"] = partial(steps_table, results, data)
        tables[f"controls-{data}"] = partial(control_table, results, data)
    for page in PAGES:
        write(page, tables)
    IMAGES.mkdir(exist_ok=True)
    for name, draw in figures.FIGURES.items():
        draw(results, IMAGES / f"{name}.png")
    console.print(f"wrote {', '.join(map(str, PAGES))} and {len(figures.FIGURES)} figures")


if __name__ == "__main__":
    main()
