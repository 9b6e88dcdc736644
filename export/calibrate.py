"""Set a bundle's threshold from a target: `python -m export.calibrate bundles/ranklens --tokens-per-list 4`.

The threshold is found on the validation split of the bundle's data set; the whole curve of what other
thresholds would give (tokens, score, milliseconds) is stored in the bundle beside it.
Legend: B lists, K positions.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from rich.table import Table

from bundle.contract import CONTROLS, UNLIMITED_MICRO_STEPS
from bundle.errors import RerankerError
from bundle.features.assembly import collate
from bundle.manifest import MANIFEST, SLATE, CurvePoint, Gate, Manifest, read_manifest
from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.policy import Policy
from model.progress import console, progress
from model.training.calibration import calibrate
from model.training.checkpoint import load_config, load_features, load_policy, save_text
from model.training.decoding import decode
from model.training.examples import Example, examples
from model.training.rollout import threshold_gate
from model.training.selection import Score, held_out_score

QUANTILES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
"""Of the curve: from never to always."""

HALVINGS = 12
TIMED_LISTS, ROUNDS = 100, 3


class TargetError(RerankerError):
    """The target lies outside what any threshold gives; the message names the option and the range."""


def curve(
    policy: Policy, bundle: Path, manifest: Manifest, held_out: list[Example], score: Score
) -> list[CurvePoint]:
    """What each threshold gives on held-out lists, from never reasoning to always."""
    points = []
    for quantile in progress(QUANTILES, "thresholds"):
        gate = calibrate(policy, held_out, quantile)
        slates = [
            slate[written].numpy()
            for rollout in decode(policy, held_out, threshold_gate(gate.threshold))
            for slate, written in zip(rollout.slate, rollout.written, strict=True)
        ]
        points.append(
            CurvePoint(
                quantile=quantile,
                threshold=gate.threshold,
                trigger_rate=gate.trigger_rate,
                tokens_per_list=gate.tokens_per_list,
                score=score(slates)[0],
                ms_per_list=0.0,
            )
        )
    times = milliseconds(bundle, manifest, [point.threshold for point in points], held_out[:TIMED_LISTS])
    return [point.model_copy(update={"ms_per_list": ms}) for point, ms in zip(points, times, strict=True)]


def milliseconds(
    bundle: Path, manifest: Manifest, thresholds: Sequence[float], rows: Sequence[Example]
) -> list[float]:
    """Mean milliseconds a list of each threshold: one list a call, one thread, thresholds in turn."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(bundle / SLATE, options, providers=["CPUExecutionProvider"])
    times = np.zeros((len(thresholds), len(rows), ROUNDS))
    for number, row in enumerate(progress(rows, "milliseconds")):
        inputs, candidates = collate([row.inputs]), len(row.labels)
        for index, threshold in enumerate(thresholds):
            controls = {
                "slate_length": min(manifest.slate_length, candidates),
                "entropy_threshold": threshold,
                "reasoning_budget": manifest.reasoning_budget,
                "micro_step_budget": UNLIMITED_MICRO_STEPS,
                "reasoning_temperature": manifest.reasoning_temperature,
                "selection_temperature": manifest.selection_temperature,
            }
            feed = {
                spec.name: np.array([controls[spec.name]], spec.dtype)
                for spec in CONTROLS
                if spec.name in controls
            }
            feed["noise"] = np.zeros((1, 1, candidates), np.float32)
            for repeat in range(ROUNDS):
                started = time.perf_counter()
                session.run(None, {**inputs, **feed})
                times[index, number, repeat] = time.perf_counter() - started
    return [round(ms, 4) for ms in (1000.0 * np.median(times, axis=2).mean(axis=1)).tolist()]


def for_tokens(policy: Policy, held_out: list[Example], target: float) -> Gate:
    """The gate that spends `target` reasoning tokens a list on average, by bisection of the quantile.

    Raises:
        TargetError: no threshold spends so many.
    """
    most = calibrate(policy, held_out, 0.0).tokens_per_list
    if not 0.0 <= target <= most:
        raise TargetError(f"--tokens-per-list: between 0 and {most:.2f} can be had, got {target:.2f}")
    low, high = 0.0, 1.0
    for _ in progress(range(HALVINGS), "bisection"):
        middle = (low + high) / 2
        gate = calibrate(policy, held_out, middle)
        low, high = (middle, high) if gate.tokens_per_list > target else (low, middle)
    return gate


def tokens_for_latency(points: Sequence[CurvePoint], target_ms: float) -> float:
    """Reasoning tokens a list that take `target_ms`, on the line through the curve's points.

    Raises:
        TargetError: faster than no reasoning, or slower than all of it.
    """
    slope, start = np.polyfit([p.tokens_per_list for p in points], [p.ms_per_list for p in points], 1)
    most = max(point.tokens_per_list for point in points)
    if not start <= target_ms <= start + slope * most:
        raise TargetError(
            f"--latency-ms: between {start:.2f} and {start + slope * most:.2f} ms a list can be had here, "
            f"got {target_ms:.2f}"
        )
    return float((target_ms - start) / slope)


def set_gate(bundle: Path, manifest: Manifest, gate: Gate) -> Manifest:
    """Write the gate into the bundle. The version ends in the threshold, so that answers tell which
    threshold they were made with."""
    version = f"{manifest.version.split('+')[0]}+h{gate.threshold:.4f}"
    changed = manifest.model_copy(update={"gate": gate, "version": version})
    save_text(bundle / MANIFEST, changed.model_dump_json(indent=2) + "\n")
    return changed


def show(points: Sequence[CurvePoint], gate: Gate) -> None:
    """Print the curve, and what was set."""
    table = Table(title="held-out lists, by threshold")
    for column in ("quantile", "threshold", "triggered", "tokens a list", "score", "ms a list"):
        table.add_column(column, justify="right")
    for p in points:
        table.add_row(
            f"{p.quantile:.1f}",
            f"{p.threshold:.4f}",
            f"{p.trigger_rate:.1%}",
            f"{p.tokens_per_list:.2f}",
            f"{p.score:.4f}",
            f"{p.ms_per_list:.3f}",
        )
    console.print(table)
    console.print(
        f"set: reasons above {gate.threshold:.4f} at {gate.trigger_rate:.1%} of positions, "
        f"{gate.tokens_per_list:.2f} tokens a list"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export.calibrate", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--tokens-per-list", type=float, help="mean reasoning tokens a list")
    target.add_argument("--latency-ms", type=float, help="mean milliseconds a list, one list a call")
    target.add_argument("--quantile", type=float, help="share of positions that do not reason")
    arguments = parser.parse_args()
    try:
        set_threshold(arguments.bundle, arguments.tokens_per_list, arguments.latency_ms, arguments.quantile)
    except RerankerError as error:
        raise SystemExit(str(error)) from None


def set_threshold(
    bundle: Path, tokens_per_list: float | None, latency_ms: float | None, quantile: float | None
) -> Manifest:
    """Set the threshold by the one target that is given, and store the curve.

    Raises:
        BundleError: no bundle there.
        DataUnavailableError: its data set is unavailable.
        TargetError: the target cannot be reached.
    """
    torch.set_num_threads(1)
    manifest = read_manifest(bundle)
    features = load_features(bundle)
    policy, dataset = load_policy(bundle, features), open_dataset(load_config(bundle))
    held_out = examples(dataset.slates["validation"], DatasetFeatures(features, []), training=False)
    points = curve(policy, bundle, manifest, held_out, held_out_score(dataset))
    if quantile is not None:
        if not 0.0 <= quantile <= 1.0:
            raise TargetError(f"--quantile: between 0 and 1, got {quantile}")
        gate = calibrate(policy, held_out, quantile)
    elif tokens_per_list is not None:
        gate = for_tokens(policy, held_out, tokens_per_list)
    else:
        assert latency_ms is not None
        gate = for_tokens(policy, held_out, tokens_for_latency(points, latency_ms))
    gate = gate.model_copy(update={"curve": tuple(points)})
    show(points, gate)
    return set_gate(bundle, manifest, gate)


if __name__ == "__main__":
    main()
