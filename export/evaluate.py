"""Ranking quality of a bundle, through the engine that serves it: `python -m export.evaluate BUNDLE`.

Beside it, on the same lists and cut to the same length: the initial order, item CTR, and LambdaMART with
every column that the policy sees. NDCG of logged labels rewards recovering labels, not the counterfactual
value of the list.
Legend: B lists, N candidates, K positions.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from bundle.errors import faults_told
from bundle.manifest import Manifest
from bundle.repository import locate
from engine.generation import Controls, Slate
from engine.loaded_model import LoadedModel
from export.advice import LABELS, WITHOUT_REASONING, advice, deciding
from export.figure import draw
from export.provenance import commit
from model.baselines import initial_order, item_ctr, lambdamart
from model.baselines.task import Task
from model.data.features import DatasetFeatures
from model.data.fingerprint import fingerprint
from model.data.open_dataset import open_dataset
from model.data.slate import Dataset, LoggedSlate, Split
from model.metrics import ndcg, paired_difference, summary
from model.progress import console
from model.sizes import feature_sizes
from model.training.checkpoint import load_config
from model.training.config import RunConfig
from model.training.examples import Example, examples
from model.training.selection import held_out_score

BATCH = 32

Orders = list[NDArray[np.int64]]


def generate(model: LoadedModel, rows: Sequence[Example], reasoning_budget: int | None = None) -> list[Slate]:
    """Greedy slates of all lists, with the bundle's defaults or another reasoning budget."""
    slates: list[Slate] = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        controls = [
            Controls.default(model.manifest, min(model.manifest.slate_length, len(row.labels)))
            for row in batch
        ]
        if reasoning_budget is not None:
            controls = [replace(control, reasoning_budget=reasoning_budget) for control in controls]
        slates += model.generate([row.inputs for row in batch], controls)
    return slates


def orders_of(slates: Sequence[Slate]) -> Orders:
    return [np.array([position.index for position in slate.positions]) for slate in slates]


def baselines(config: RunConfig, dataset: Dataset, slates: Sequence[LoggedSlate]) -> dict[str, Orders]:
    """Slates of the baselines, trained as the bundle was: same split, same features."""
    features = DatasetFeatures.fit(dataset, config.features)
    train = examples(dataset.slates["train"][: config.training_lists], features, training=True)
    held_out = examples(dataset.slates["validation"], features, training=False)
    test = examples(slates, features, training=False)
    with tempfile.TemporaryDirectory() as run:
        task = Task(
            train=train,
            held_out=held_out,
            test=test,
            columns=features.serving.candidate_columns,
            sizes=feature_sizes(features.serving),
            slate_length=config.policy.slate_length,
            seed=config.seed,
            score=held_out_score(dataset),
            evaluator=None,
            run=Path(run),
        )
        results = {"initial order": initial_order.rank(task)}
        if config.features.item_ctr:
            results["item CTR"] = item_ctr.rank(task)
        results["LambdaMART"] = lambdamart.rank_all_columns(task)
    return results


def reasoning_figures(slates: Sequence[Slate]) -> dict[str, Any]:
    """Trigger rate, reasoning tokens, and mean entropy in nats by position, before and after reasoning."""
    positions = [position for slate in slates for position in slate.positions]
    longest = max(len(slate.positions) for slate in slates)
    by_position = [[s.positions[k] for s in slates if len(s.positions) > k] for k in range(longest)]
    triggered = [position for position in positions if position.reasoning_tokens]
    return {
        "trigger_rate": len(triggered) / len(positions),
        "reasoning_tokens_per_list": sum(slate.reasoning_tokens for slate in slates) / len(slates),
        "entropy_before": [float(np.mean([p.entropy_before for p in row])) for row in by_position],
        "entropy_after": [float(np.mean([p.entropy_after for p in row])) for row in by_position],
        "trigger_rate_by_position": [
            float(np.mean([p.reasoning_tokens > 0 for p in row])) for row in by_position
        ],
        "entropy_change_where_triggered": float(
            np.mean([p.entropy_after - p.entropy_before for p in triggered]) if triggered else 0.0
        ),
    }


def evaluate(bundle: Path, split: Split) -> dict[str, Any]:
    """Quality and reasoning figures of a bundle and the baselines beside it.

    Raises:
        BundleError: the bundle cannot be served.
        DataUnavailableError: its dataset is unavailable.
    """
    bundle = locate(bundle)
    model, config = LoadedModel.open(bundle), load_config(bundle)
    dataset = open_dataset(config)
    slates = dataset.slates[split]
    labels = [slate.labels for slate in slates]
    rows = examples(slates, DatasetFeatures(model.features), training=False)
    generated = generate(model, rows)
    results = baselines(config, dataset, slates)
    results[own := f"EGLR ({model.manifest.reasoner})"] = orders_of(generated)
    results[WITHOUT_REASONING] = orders_of(generate(model, rows, reasoning_budget=0))
    results = {name: [order[: model.manifest.slate_length] for order in o] for name, o in results.items()}
    metrics = {name: summary(orders, labels) for name, orders in results.items()}
    values = {"ndcg@10": {name: ndcg(orders, labels, 10) for name, orders in results.items()}}
    if dataset.true_value is not None:
        value = dataset.true_value
        values["true_value"] = {
            name: np.array(
                [value(slate, order.tolist()) for slate, order in zip(slates, orders, strict=True)]
            )
            for name, orders in results.items()
        }
        for name, of_lists in values["true_value"].items():
            metrics[name]["true_value"] = float(of_lists.mean())
    return {
        "dataset": dataset.name,
        "split": split,
        "lists": len(slates),
        "model_version": model.manifest.version,
        "commit": commit(),
        "log_changed": log_changed(config, model.manifest),
        "metrics": metrics,
        **{f"{metric}_difference": _differences(of_lists, own) for metric, of_lists in values.items()},
        "reasoning": reasoning_figures(generated),
        "context": model.manifest.training.get("context"),
    }


def log_changed(config: RunConfig, manifest: Manifest) -> bool:
    """Whether the log is another one than the bundle was trained on, as far as both are known."""
    trained, there = manifest.training.get("log_sha256"), fingerprint(config)
    return None not in (trained, there) and trained != there


def _differences(of_lists: dict[str, NDArray[np.float64]], own: str) -> dict[str, Any]:
    """What `own` is ahead of each other, in the mean and with its interval."""
    gaps = {name: paired_difference([of_lists[own] - o]) for name, o in of_lists.items() if name != own}
    return {name: {"mean": gap.mean, "interval": (gap.low, gap.high)} for name, gap in gaps.items()}


def show(report: dict[str, Any]) -> None:
    """Print a report as tables, and what it says to do."""
    names, metric = list(next(iter(report["metrics"].values()))), deciding(report)
    table = Table(title=f"{report['dataset']}, {report['split']} split, {report['lists']} lists")
    table.add_column("model")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column(f"EGLR minus it, {LABELS[metric]} [95 %]", justify="right")
    for model, metrics in report["metrics"].items():
        gap = report[f"{metric}_difference"].get(model)
        text = f"{gap['mean']:+.4f} [{gap['interval'][0]:+.4f}, {gap['interval'][1]:+.4f}]" if gap else ""
        table.add_row(model, *(f"{metrics[name]:.4f}" for name in names), text)
    console.print(table)
    reasoning = report["reasoning"]
    table = Table(title="reasoning by position (entropy in nats)")
    for column in ("position", "entropy before", "entropy after", "triggered"):
        table.add_column(column, justify="right")
    columns = (reasoning[name] for name in ("entropy_before", "entropy_after", "trigger_rate_by_position"))
    for position, (before, after, triggered) in enumerate(zip(*columns, strict=True)):
        table.add_row(str(position), f"{before:.4f}", f"{after:.4f}", f"{triggered:.1%}")
    console.print(table)
    console.print(
        f"trigger rate {reasoning['trigger_rate']:.1%}, "
        f"{reasoning['reasoning_tokens_per_list']:.2f} reasoning tokens a list, entropy change where "
        f"triggered {reasoning['entropy_change_where_triggered']:+.4f} nats"
    )
    if report["log_changed"]:
        console.print("[yellow]the log has changed since the bundle was trained: these are other lists[/]")
    console.print(escape(advice(report)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export.evaluate", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--json", type=Path, help="also write the report here")
    parser.add_argument("--figure", type=Path, help="also draw the report here, as PNG")
    arguments = parser.parse_args()
    with faults_told():
        report = evaluate(arguments.bundle, arguments.split)
        show(report)
        if arguments.figure:
            draw(report, arguments.figure)
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
