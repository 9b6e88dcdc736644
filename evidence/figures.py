"""The figures of docs/results.md. Each takes the results and the PNG to write."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evidence.controls import BUDGETS, QUANTILES
from evidence.data import DATA, ONE, STRENGTHS
from evidence.results import Results, context_worth
from evidence.tables import present

RED, BLUE, GREY = "#c44e52", "#4c72b0", "#8c9aae"
EGLR, PLAIN = "EGLR", "without reasoning"
OFF = "reasoning switched off"
ABLATED = f"simulator-{ONE}"
"""Where all controls were run."""


def gains(results: Results, path: Path) -> None:
    """Paired difference of everything to the same model trained without reasoning, with its interval."""
    data = ABLATED
    pairs = [(EGLR, None), ("EGLR, paper's token", None), *results.controls(data)]
    found = [(pair, results.gap(data, pair, (PLAIN, None))) for pair in pairs]
    kept = sorted(((p, g) for p, g in found if g is not None), key=lambda entry: entry[1].mean)
    figure, axes = plt.subplots(figsize=(9, 0.3 * len(kept) + 1), layout="constrained")
    for height, ((model, control), (mean, low, high, *_)) in enumerate(kept):
        colour = RED if (model, control) == (EGLR, None) else BLUE
        axes.plot([low, high], [height, height], color=colour, lw=2)
        axes.plot(mean, height, "o", color=colour)
    axes.set_yticks(range(len(kept)), [f"{m}: {c}" if c else m for (m, c), _ in kept], fontsize=8)
    axes.axvline(0.0, color="black", lw=0.8)
    axes.set_xlabel(f"true value minus the model trained without reasoning, 95 % interval ({data})")
    _save(figure, path)


def entropy(results: Results, path: Path) -> None:
    """Selection entropy by position before and after reasoning, and where the tokens go."""
    names = [data for data, _ in present(results)]
    lines = max(1, math.ceil(len(names) / 3))
    figure, panels = plt.subplots(lines, 3, figsize=(12.6, 3.4 * lines), layout="constrained", squeeze=False)
    for unused in panels.flat[len(names) :]:
        unused.set_axis_off()
    for axes, data in zip(panels.flat, names, strict=False):
        runs = results.runs(data, EGLR)
        places = np.arange(1, 1 + len(runs[0]["entropy_before"]))
        for name, colour in (("entropy_before", BLUE), ("entropy_after", RED)):
            axes.plot(
                places, np.mean([row[name] for row in runs], axis=0), "o-", color=colour, ms=3, label=name[8:]
            )
        plain = results.runs(data, PLAIN)
        if plain:
            values = np.mean([row["entropy_before"] for row in plain], axis=0)
            axes.plot(places, values, "--", color=GREY, label="trained without")
        tokens = axes.twinx()
        tokens.bar(
            places, np.mean([row["tokens_by_position"] for row in runs], axis=0), color=GREY, alpha=0.25
        )
        tokens.set(ylim=(0, 4), yticks=[0, 1, 2])
        tokens.set_ylabel("tokens", loc="bottom", fontsize=8)
        axes.set_title(data, fontsize=10)
        axes.set(xlabel="position", ylabel="selection entropy, nats")
    panels[0][0].legend(fontsize=8)
    _save(figure, path)


def budget(results: Results, path: Path) -> None:
    """NDCG, true value and diversity against the gate's threshold (its quantile) and the reasoning budget,
    in per cent of what they are with reasoning switched off."""
    names = [data for data, _ in present(results) if results.runs(data, EGLR, OFF)]
    figure, panels = plt.subplots(
        2, len(names), figsize=(4.2 * len(names), 5.4), layout="constrained", squeeze=False, sharey=True
    )
    shares: dict[float, str | None] = {0.0: "always", **{q: f"entropy gate, quantile {q}" for q in QUANTILES}}
    shares |= {0.6: None, 1.0: OFF}
    budgets: dict[int, str] = {0: OFF, 2: "always", **{other: f"always, S = {other}" for other in BUDGETS}}
    for column, data in enumerate(names):
        metrics = ["ndcg@10", "diversity"] + ["true_value"] * DATA[data].known
        for axes, points, label in (
            (panels[0][column], shares, "quantile the threshold is set at (1 = never)"),
            (panels[1][column], budgets, "reasoning tokens at every position"),
        ):
            for metric, colour in zip(metrics, (BLUE, GREY, RED), strict=False):
                off = results.mean(data, EGLR, OFF, metric)
                known = [
                    (x, 100 * (results.mean(data, EGLR, control, metric) / off - 1))
                    for x, control in sorted(points.items())
                    if results.runs(data, EGLR, control)
                ]
                axes.plot(*zip(*known, strict=True), "o-", color=colour, label=metric)
            axes.set_xlabel(label)
        panels[0][column].set_title(data, fontsize=10)
    for row in panels:
        row[0].set_ylabel("gain over reasoning switched off, %")
    panels[0][0].legend(fontsize=8)
    _save(figure, path)


def pareto(results: Results, path: Path) -> None:
    """Quality against milliseconds a list, through the exported graph and decoded natively."""
    columns = {"ms_per_list": "through the exported graph", "ms_native": "native decoding"}
    timed = {
        (data, column): {
            (row["model"], row["control"])
            for row in results.rows.values()
            if row["dataset"] == data and row.get(column)
        }
        for data in DATA
        for column in columns
    }
    panels = [panel for panel, found in timed.items() if found]
    rows = max(1, (len(panels) + 1) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(16, 5.5 * rows), layout="constrained", squeeze=False)
    for panel, (data, column) in zip(axes.flat, panels, strict=False):
        labels = []
        for model, control in sorted(timed[data, column], key=str):
            runs = results.runs(data, model, control)
            ms = np.mean([row[column] for row in runs if row.get(column)])
            value = results.mean(data, model, control, DATA[data].metric)
            ours = model == EGLR
            panel.plot(ms, value, "o", color=RED if ours else BLUE)
            own = control if control and control not in model else model
            label = f"EGLR, {control or 'entropy gate'}" if ours else own
            labels.append((value, ms, label))
        _beside(panel, labels)
        panel.set(xlabel="ms a list, one list a call, one thread", ylabel=DATA[data].metric)
        panel.set_title(f"{data}, {columns[column]}")
    _save(figure, path)


def evaluator(results: Results, path: Path) -> None:
    """The evaluator's score and the true value, where it is known: the distance is the evaluator's error."""
    names = [data for data, _ in present(results) if DATA[data].known]
    models = {data: [model for model, control in results.models(data) if not control] for data in names}
    most = max((len(found) for found in models.values()), default=1)
    figure, panels = plt.subplots(
        1, len(names), figsize=(4.4 * len(names), 1 + 0.24 * most), layout="constrained", squeeze=False
    )
    for axes, data in zip(panels[0], names, strict=True):
        shown = models[data][::-1]
        places = range(len(shown))
        means = {
            name: [results.mean(data, model, None, name) for model in shown]
            for name in ("evaluator_score", "true_value")
        }
        axes.hlines(places, means["evaluator_score"], means["true_value"], color=GREY)
        axes.plot(means["evaluator_score"], places, "o", mfc="white", color=BLUE, label="evaluator's score")
        axes.plot(means["true_value"], places, "o", color=RED, label="true value")
        axes.set_yticks(places, shown, fontsize=8)
        axes.set(xlabel="expected clicks", title=data)
    panels[0][0].legend(fontsize=8)
    _save(figure, path)


def strengths(results: Results, path: Path) -> None:
    """Gain of reasoning against what order and neighbours of a list are worth to a click model."""
    found = {world: results.gap(f"{world}-{ONE}", (EGLR, None), (PLAIN, None)) for world in STRENGTHS}
    gaps = {world: gap for world, gap in found.items() if gap is not None}
    worth = context_worth()
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for world, gap in gaps.items():
        strength = DATA[f"{world}-{ONE}"].run_config(0).simulator.strength
        x = worth[world].mean
        axes.plot([x, x], [gap.low, gap.high], color=RED, lw=2)
        axes.plot(x, gap.mean, "o", color=RED)
        axes.annotate(f"  {strength:g}", (x, gap.mean), fontsize=8)
    axes.axhline(0.0, color="black", lw=0.8)
    axes.set_xlabel("worth of order and neighbours, nats a position (numbers: strength of the effects)")
    axes.set_ylabel("gain of reasoning, true value, 95 % interval")
    _save(figure, path)


def _beside(panel: Axes, labels: Sequence[tuple[float, float, str]]) -> None:
    """Label points `(y, x, text)` in a column to the right of all of them, in their order of height."""
    places = np.linspace(0.02, 0.98, len(labels))
    for place, (y, x, text) in zip(places, sorted(labels), strict=True):
        panel.annotate(
            text,
            (x, y),
            xytext=(1.03, place),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.5},
        )


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)


FIGURES: dict[str, Callable[[Results, Path], None]] = {
    "gains": gains,
    "entropy": entropy,
    "budget": budget,
    "pareto": pareto,
    "evaluator": evaluator,
    "strengths": strengths,
}
"""By the name of the file in docs/images."""
