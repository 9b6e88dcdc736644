"""Results as Markdown: the blocks of docs/results.md and docs/large-lists.md, and the README's on quality."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evidence.data import DATA
from evidence.grid import TRAININGS
from evidence.pages import table
from evidence.references import REFERENCES
from evidence.results import RESULTS, Results, Row
from model.baselines import BASELINES

OURS, REFERENCE = "EGLR", "without reasoning"
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
}
"""The data sets as the README names them, in its order."""

Gap = tuple[float, float, float]
"""Mean paired difference, and the ends of its interval."""


def plain(gap: Gap | None) -> str:
    """A difference with its interval."""
    return "" if gap is None else f"{gap[0]:+.4f} [{gap[1]:+.4f}, {gap[2]:+.4f}]"


def shown(gap: Gap | None) -> str:
    """In bold if the interval excludes zero."""
    return f"**{plain(gap)}**" if gap and (gap[1] > 0 or gap[2] < 0) else plain(gap)


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
        ["data", "backbone", "without reasoning", "gain of EGLR [95 %]", "relative"],
        [
            [data, name, f"{mean:.4f}", shown(gap), f"{gap[0] / mean:+.2%}"]
            for data, name, mean, gap in backbone_gains(results)
        ],
    )


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


def summary_table(results: Results) -> str:
    """The deciding comparisons on every data set: reasoning against none, and against LambdaMART."""
    rows = []
    for data, title in TITLES.items():
        metric = DATA[data].metric
        gaps = (results.gap(data, (OURS, None), (other, None)) for other in (REFERENCE, "LambdaMART"))
        mean = results.mean(data, REFERENCE, None, metric)
        rows.append([title, METRICS[metric], f"{mean:.4f}", *map(shown, gaps)])
    header = ["data set", "metric", REFERENCE, "EGLR minus that [95 %]", "EGLR minus LambdaMART [95 %]"]
    return table(header, rows)


def gains(results: Results) -> str:
    """The smallest and the largest relative gain of reasoning, of those whose interval excludes zero."""
    found = [100 * gap[0] / mean for *_, mean, gap in backbone_gains(results) if gap[1] > 0 or gap[2] < 0]
    return f"{min(found):.1f} to {max(found):.1f} %" if found else "nothing"


def bundle_table(report: Mapping[str, Any]) -> str:
    """A report of export.evaluate, the bundle last."""
    gaps = report["ndcg@10_difference"]
    own = next(name for name in report["metrics"] if name not in gaps)
    rows = [
        [name, f"{report['metrics'][name]['ndcg@10']:.4f}", plain((gap["mean"], *gap["interval"]))]
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
    bundle, long = (
        json.loads((directory / f"{name}.json").read_text()) for name in ("bundle", "large_lists")
    )
    made = {
        "backbones": backbone_table(results),
        "summary": summary_table(results),
        "gains": gains(results),
        "bundle": bundle_table(bundle),
        "bundle-source": bundle_source(bundle),
        "large-lists-times": times_table(long),
        "large-lists-values": values_table(long),
    }
    for data in DATA:
        made[f"main-{data}"] = main_table(results, data)
        if DATA[data].known:
            made[f"possible-{data}"] = possible_table(results, data)
        if DATA[data].controls:
            made[f"controls-{data}"] = control_table(results, data)
    return made
