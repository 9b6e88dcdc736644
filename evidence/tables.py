"""Results as Markdown: the blocks of docs/results.md and docs/large-lists.md, and the README's on quality.

Long, because every block is here: each is short, and they share their cells.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evidence.data import DATA, ONE, SAME_EVALUATORS, STRENGTHS
from evidence.grid import TRAININGS
from evidence.intervals import Gap
from evidence.pages import table
from evidence.references import REFERENCES
from evidence.results import RESULTS, Results, Row, context_worth
from model.baselines import BASELINES

OURS, REFERENCE = "EGLR", "without reasoning"
RIVALS = (REFERENCE, "EG-Rerank, same evaluators", "CMR-style, same evaluators", "LambdaMART")
"""What decides: the same without reasoning, the best of others, and what a team has already."""

BACKBONES = {"GRU": ("EGLR", "without reasoning")} | {
    name: (f"EGLR, {name}", f"without reasoning, {name}") for name in ("LSTM", "Transformer")
}
METRICS = {"true_value": "true value", "ndcg@10": "NDCG@10"}
TITLES = {
    "simulator": "simulator, 20 candidates",
    "simulator-n100": "simulator, 100 candidates",
    "simulator-twice": "simulator, effects between items twice as strong",
    "simulator-none": "simulator, no effects between items",
    "ranklens": "RankLens, 24 candidates",
    "movietweetings": "MovieTweetings, 50 candidates",
    "movietweetings-scored": "MovieTweetings, with LambdaMART's score",
    "movietweetings-by-time": "MovieTweetings, tested on later lists",
    "kuairand": "KuaiRand, 5 to 50 candidates",
    "kuairand-scored": "KuaiRand, with LambdaMART's score",
}
"""The data sets as the README names them, in its order."""

CONTEXT_TITLES = TITLES | {
    "simulator-quarter": "simulator, effects a quarter as strong",
    "simulator-half": "simulator, effects half as strong",
}
"""And those that evidence.context measures besides."""


def present(results: Results) -> Iterator[tuple[str, str]]:
    """Data sets that were run and their names in the README; worlds by today's recipe or else the earlier."""
    for data, title in TITLES.items():
        earlier = f"{data}-{ONE}"
        if results.runs(data, OURS):
            yield data, title
        elif results.runs(earlier, OURS):
            yield earlier, f"{title} (one evaluator, imitation alone)"


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


def lists_table(found: Mapping[str, Any]) -> str:
    """Which lists are used and which dropped; how many training lists are later than the median test list."""
    rows = []
    for data, one in found.items():
        lost = sum(one["dropped"].values())
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in one["dropped"].items())
        shares = sorted({f"{min(one['later']):.0%}", f"{max(one['later']):.0%}"})
        rows.append(
            [
                TITLES[data],
                f"{one['lists']:,} of {one['lists'] + lost:,}",
                f"{lost / (one['lists'] + lost):.0%}: {reasons}",
                f"{one['people']:,}",
                f"{one['candidates']:.1f}",
                f"{one['positive']:.1f}",
                " to ".join(shares),
            ]
        )
    header = ["data set", "lists used", "dropped", "people", "candidates", "relevant", "later training lists"]
    return table(header, rows)


def main_table(results: Results, data: str) -> str:
    """Every model of the main table on one data set, best first."""
    metric = DATA[data].metric
    models = [name for name, training in TRAININGS.items() if training.control is None]
    models += [*BASELINES, *SAME_EVALUATORS]
    found = [model for model in models if results.runs(data, model)]
    if not found:
        return f"Not run yet: `python -m evidence --data {data}`."
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


def steps_table(results: Results, data: str) -> str:
    """What each step of training brings, with reasoning and without, and how far the evaluators are from
    the truth about it."""
    earlier = f"{data}-{ONE}"
    steps: dict[str, tuple[str, str | None]] = {
        "one evaluator, imitation": (earlier, None),
        "the mean of three, imitation": (data, "imitation alone"),
        "+ one round of expert iteration": (data, "one round of expert iteration"),
        "+ a second round": (data, "two rounds of expert iteration"),
        "+ a third round": (data, None),
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


def strengths_table(results: Results, directory: Path) -> str:
    """The gain of reasoning where what surrounds an item matters more and more."""
    worth, rows = context_worth(directory), []
    for world in STRENGTHS:
        data = f"{world}-{ONE}"
        gain = results.gap(data, (OURS, None), (REFERENCE, None))
        if gain is None:
            continue
        mean = results.mean(data, REFERENCE, None, "true_value")
        strength = f"{DATA[f'{world}-{ONE}'].run_config(0).simulator.strength:g}"
        nats = f"{worth[world].mean:.4f}" if world in worth else ""
        runs = counted(results.runs(data, OURS))
        rows.append([strength, nats, runs, f"{mean:.4f}", shown(gain), f"{gain.mean / mean:+.2%}"])
    header = ["strength of effects", "worth of order and neighbours, nats a position", "runs"]
    return table([*header, "without reasoning", "gain of EGLR", "relative"], rows)


def context_table(directory: Path) -> str:
    """What order and neighbours are worth, and so whether there is anything for reasoning to find."""
    rows = [
        [CONTEXT_TITLES[name], f"{worth.mean:+.4f}", f"[{worth.low:+.4f}, {worth.high:+.4f}]"]
        for name, worth in context_worth(directory).items()
    ]
    return table(["data", "worth of order and neighbours, nats a position", "95 %, over people"], rows)


def possible_table(results: Results, data: str) -> str:
    """True values, also as shares of the way from random order to the oracle."""
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


def backbone_gains(results: Results) -> Iterator[tuple[str, str, float, Gap]]:
    """(data set, backbone, mean without reasoning, gain of training with it), where there are runs."""
    for data in DATA:
        for name, (ours, reference) in BACKBONES.items():
            gap = results.gap(data, (ours, None), (reference, None))
            if gap is not None:
                yield data, name, results.mean(data, reference, None, DATA[data].metric), gap


def backbone_table(results: Results) -> str:
    """Gain of reasoning on each backbone: trained with it against trained without it."""
    return table(
        ["data", "backbone", "without reasoning", "gain of EGLR", "relative"],
        [
            [data, name, f"{mean:.4f}", shown(gap), f"{gap.mean / mean:+.2%}"]
            for data, name, mean, gap in backbone_gains(results)
        ],
    )


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


PUBLISHED = {0: (0.7443, 1.0), 1: (0.7526, 1.44), 3: (0.7541, 2.26)}
"""The paper's NDCG@10 on KuaiRand and its time over that of S_max = 0, by S_max."""


def budget_table(results: Results, data: str) -> str:
    """One policy with S_max = 0, 1 and 3, gated and at every position, beside what the paper says."""
    controls = {0: ("reasoning switched off",) * 2} | {
        budget: (f"entropy gate, S = {budget}", f"always, S = {budget}") for budget in (1, 3)
    }
    off = results.runs(data, OURS, controls[0][0])
    rows = []
    for budget, (value, time) in PUBLISHED.items():
        cells = [str(budget), f"{value:.4f}", f"x {time:.2f}"]
        for control in controls[budget]:
            runs = results.runs(data, OURS, control)
            found = results.mean(data, OURS, control, "ndcg@10")
            cells += [f"{found:.4f}" if runs else "", *_slower(runs, off)]
        rows.append(cells)
    columns = ("NDCG@10", "time, graph", "time, native")
    header = ["S_max", "the paper's NDCG@10", "the paper's time"]
    header += [f"{name}, {where}" for where in ("gated", "every position") for name in columns]
    return table(header, rows)


def _slower(runs: list[Row], than: list[Row]) -> list[str]:
    """Times over others, through the graph and natively."""
    pairs = zip(milliseconds(runs), milliseconds(than), strict=True)
    return [f"x {float(own) / float(other):.2f}" if own and other else "" for own, other in pairs]


MILLISECONDS = ("ms, graph", "ms, native")


def milliseconds(runs: list[Row]) -> list[str]:
    """Through the exported graph, and natively."""
    columns = ([row[name] for row in runs if row.get(name)] for name in ("ms_per_list", "ms_native"))
    return [f"{np.mean(times):.2f}" if times else "" for times in columns]


def summary_table(results: Results) -> str:
    """The deciding comparisons on every data set: with the same policy without reasoning, with what is
    best of others, and with what a team has already."""
    rows = []
    for name, title in present(results):
        metric = DATA[name].metric
        without = DATA[name].without  # where policies have one evaluator, as these baselines have by default
        rivals = [SAME_EVALUATORS[rival] if rival in without else rival for rival in RIVALS]
        gaps = (results.gap(name, (OURS, None), (rival, None)) for rival in rivals)
        marks = (results.mark(name, rival) if results.runs(name, rival) else "" for rival in rivals)
        cells = [shown(gap) + mark for gap, mark in zip(gaps, marks, strict=True)]
        rows.append([title, METRICS[metric], f"{results.mean(name, OURS, None, metric):.4f}", *cells])
    return table(["data set", "metric", OURS, *(f"minus {rival}" for rival in RIVALS)], rows)


def gains(results: Results) -> str:
    """The smallest and the largest relative gain of reasoning, of those that are sure."""
    found = [100 * gap.mean / mean for *_, mean, gap in backbone_gains(results) if gap.sure]
    return f"{min(found):.1f} to {max(found):.1f} %" if found else "nothing"


def bundle_table(report: Mapping[str, Any]) -> str:
    """A report of export.evaluate, the bundle last."""
    gaps = report["ndcg@10_difference"]
    own = next(name for name in report["metrics"] if name not in gaps)
    rows = [
        [
            name,
            f"{report['metrics'][name]['ndcg@10']:.4f}",
            f"{gap['mean']:+.4f} [{gap['interval'][0]:+.4f}, {gap['interval'][1]:+.4f}]",
        ]
        for name, gap in gaps.items()
    ]
    rows.append([f"**{OURS}**", f"**{report['metrics'][own]['ndcg@10']:.4f}**", ""])
    return table(["", "NDCG@10", "EGLR minus it [95 %]"], rows)


def bundle_source(report: Mapping[str, Any]) -> str:
    """What a report of export.evaluate was measured on."""
    return f"{report['lists']:,} lists, model version `{report['model_version']}`, commit {report['commit']}"


def times_table(found: Mapping[str, Any]) -> str:
    """Milliseconds per list by decoding, encoder and length, from evidence.large_lists."""
    lengths = list(found["p50_ms"]["graph"]["light"])
    return table(
        ["decoding, encoder", *(f"N = {n}" for n in lengths), "growth 50 to 1,000"],
        [
            [
                f"{way}, {name}",
                *(f"{times[n]:.2f}" for n in lengths),
                f"{found['growth'][way][name]:.1f} x",
            ]
            for way, by_encoder in found["p50_ms"].items()
            for name, times in by_encoder.items()
        ],
    )


def values_table(found: Mapping[str, Any]) -> str:
    """True value by encoder and length, from evidence.large_lists."""
    rows = {(row["lists_by"], row["n"]): row for row in found["quality"]}
    names, lengths = (list(dict.fromkeys(part)) for part in zip(*rows, strict=True))
    lines = [[name, *(f"{rows[name, n]['true_value']:.3f}" for n in lengths)] for name in names]
    for name in names:
        gaps = [rows[name, n].get("minus_full") for n in lengths]
        if all(gaps):
            cells = (f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]" for gap in gaps if gap)
            lines.append([f"{name} minus full", *cells])
    return table(["lists by", *(f"N = {n}" for n in lengths)], lines)


def blocks(results: Results, directory: Path = RESULTS) -> dict[str, str]:
    """Every block that is made of the results in `directory`, by its name on the pages."""
    bundle, long, lists = (
        json.loads((directory / f"{name}.json").read_text()) for name in ("bundle", "large_lists", "lists")
    )
    made = {
        "lists": lists_table(lists),
        "backbones": backbone_table(results),
        "summary": summary_table(results),
        "strengths": strengths_table(results, directory),
        "context": context_table(directory),
        "gains": gains(results),
        "bundle": bundle_table(bundle),
        "bundle-source": bundle_source(bundle),
        "large-lists-times": times_table(long),
        "large-lists-values": values_table(long),
    }
    made["budget-kuairand"] = budget_table(results, "kuairand")
    for data in DATA:
        made[f"main-{data}"] = main_table(results, data)
        if DATA[data].known:
            made[f"possible-{data}"] = possible_table(results, data)
            made[f"steps-{data}"] = steps_table(results, data)
        if DATA[data].controls:
            made[f"controls-{data}"] = control_table(results, data)
    return made
