"""Set a model's threshold from a target: `python -m export.calibrate bundles/ranklens --tokens-per-list 4`.

The threshold is found on the validation split of the bundle's data set; the whole curve of what other
thresholds would give (tokens, score, milliseconds) is stored in the bundle beside it. In the same way,
`--lookahead 2` sets how many other items are tried at an uncertain position.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
import torch
from rich.table import Table

from bundle.errors import RerankerError, faults_told
from bundle.manifest import (
    MANIFEST,
    MOST_ALTERNATIVES,
    Calibration,
    CurvePoint,
    LookaheadPoint,
    Manifest,
)
from bundle.repository import CURRENT, locate, marked, point, publish
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.policy import Policy
from model.progress import console, progress
from model.training.calibration import calibrate
from model.training.checkpoint import load_config, load_policy, save_text
from model.training.decoding import decode
from model.training.examples import Example, examples
from model.training.rollout import threshold_gate
from model.training.selection import Score, held_out_score

QUANTILES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
"""Of the curve: from never to always."""

HALVINGS = 12
TIMED_LISTS, ROUNDS = 100, 9
ALTERNATIVES = (0, 1, 2, 3, 4, 6)
"""Of lookahead's curve."""


class TargetError(RerankerError):
    """The target lies outside what any threshold gives; the message names the option and the range."""


def curve(policy: Policy, model: LoadedModel, held_out: list[Example], score: Score) -> list[CurvePoint]:
    """What each threshold gives on held-out lists, from never reasoning to always."""
    found = [calibrate(policy, held_out, quantile) for quantile in progress(QUANTILES, "thresholds")]
    thresholds = [calibration.threshold for calibration in found]
    ways = [{"entropy_threshold": threshold} for threshold in thresholds]
    times = milliseconds(model, ways, _timed(held_out))
    points = []
    for calibration, ms in zip(found, times, strict=True):
        rollouts = decode(policy, held_out, threshold_gate(calibration.threshold))
        points.append(
            CurvePoint(
                quantile=calibration.quantile,
                threshold=calibration.threshold,
                trigger_rate=calibration.trigger_rate,
                tokens_per_list=calibration.tokens_per_list,
                score=score([slate for rollout in rollouts for slate in rollout.slates()])[0],
                ms_per_list=round(ms, 4),
            )
        )
    return points


def lookahead_curve(model: LoadedModel, held_out: list[Example], score: Score) -> list[LookaheadPoint]:
    """What trying more items gives on held-out lists, from none, through the engine that serves."""
    times = milliseconds(model, [{"lookahead": count} for count in ALTERNATIVES], _timed(held_out))
    points = []
    for count, ms in zip(ALTERNATIVES, times, strict=True):
        slates = [
            model.generate([row.inputs], [replace(_own_controls(model, row), lookahead=count)])[0]
            for row in progress(held_out, f"lists with {count} alternatives")
        ]
        orders = [np.array([position.index for position in slate.positions]) for slate in slates]
        judged = float(np.mean([slate.judged for slate in slates]))
        points.append(
            LookaheadPoint(
                alternatives=count, judged_per_list=judged, score=score(orders)[0], ms_per_list=round(ms, 4)
            )
        )
    return points


def _own_controls(model: LoadedModel, row: Example) -> Controls:
    return Controls.default(model.manifest, min(model.manifest.slate_length, len(row.labels)))


def _timed(held_out: Sequence[Example]) -> Sequence[Example]:
    return held_out[:: max(1, len(held_out) // TIMED_LISTS)]


def milliseconds(model: LoadedModel, ways: Sequence[dict[str, Any]], rows: Sequence[Example]) -> list[float]:
    """Mean milliseconds a list with each way's controls, one list a call, all ways in every round.

    Of each list's rounds the median counts; and of the time that of this thread, which does all of the work,
    so that other processes' turns are not in it.
    """
    times = np.zeros((ROUNDS + 1, len(ways), len(rows)))
    for turn in progress(range(ROUNDS + 1), "milliseconds"):
        for index, way in enumerate(ways):
            for number, row in enumerate(rows):  # innermost: a list is not met twice in a row, nor in cache
                controls = [replace(_own_controls(model, row), **way)]
                started = thread_time()
                model.generate([row.inputs], controls)
                times[turn, index, number] = thread_time() - started
    measured = times[1:]  # the first round warms up
    return [float(ms) for ms in 1000.0 * np.median(measured, axis=0).mean(axis=1)]


def for_tokens(policy: Policy, held_out: list[Example], target: float) -> Calibration:
    """The threshold that spends `target` reasoning tokens a list on average, by bisection of the quantile.

    Raises:
        TargetError: no threshold spends so many.
    """
    most = calibrate(policy, held_out, 0.0).tokens_per_list
    if not 0.0 <= target <= most:
        raise TargetError(f"--tokens-per-list: between 0 and {most:.2f} can be had, got {target:.2f}")
    low, high = 0.0, 1.0
    for _ in progress(range(HALVINGS), "bisection"):
        middle = (low + high) / 2
        calibration = calibrate(policy, held_out, middle)
        low, high = (middle, high) if calibration.tokens_per_list > target else (low, middle)
    return calibration


def tokens_for_latency(points: Sequence[CurvePoint], target_ms: float) -> float:
    """Reasoning tokens a list that take `target_ms`, on the line through the curve's points.

    Raises:
        TargetError: faster than no reasoning, or slower than all of it.
    """
    slope, start = np.polyfit([p.tokens_per_list for p in points], [p.ms_per_list for p in points], 1)
    most = max(point.tokens_per_list for point in points)
    if not start <= target_ms <= start + slope * most:
        raise TargetError(
            f"--latency-ms: between {start:.3f} and {start + slope * most:.3f} ms a list can be had here, "
            f"got {target_ms:.3f}"
        )
    return float((target_ms - start) / slope)


def store(bundle: Path, manifest: Manifest, changes: dict[str, Any], current: bool = True) -> Manifest:
    """Write what was calibrated into a bundle by itself; of a version make a new one, current if that was and
    unless `current` is false.

    The version ends in the threshold, and in the lookahead if there is one, so that answers tell what they
    were made with.

    Raises:
        BundleError: there is such a version already.
    """
    changed = manifest.model_copy(update=changes)
    ahead = f"a{changed.lookahead}" if changed.lookahead else ""
    version = marked(manifest.version, "h", f"{changed.gate.threshold:.4f}{ahead}")
    changed = changed.model_copy(update={"version": version})
    if not (bundle.parent / CURRENT).is_symlink():
        save_text(bundle / MANIFEST, changed.model_dump_json(indent=2) + "\n")
        return changed
    folder = bundle.parent
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as copies:
        copy = Path(shutil.copytree(bundle, Path(copies) / "copy"))
        save_text(copy / MANIFEST, changed.model_dump_json(indent=2) + "\n")
        publish(copy, folder, version)
    if current and locate(folder) == bundle.resolve():
        point(folder, version)
    return changed


def show(points: Sequence[CurvePoint], calibration: Calibration) -> None:
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
        f"set: reasons above {calibration.threshold:.4f} at {calibration.trigger_rate:.1%} of positions, "
        f"{calibration.tokens_per_list:.2f} tokens a list"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export.calibrate", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--tokens-per-list", type=float, help="mean reasoning tokens a list")
    target.add_argument("--latency-ms", type=float, help="mean milliseconds a list, one list a call")
    target.add_argument("--quantile", type=float, help="share of positions that do not reason")
    target.add_argument("--lookahead", type=int, help="other items to try at an uncertain position")
    parser.add_argument("--not-current", action="store_true", help="leave the current version as it is")
    arguments = parser.parse_args()
    current = not arguments.not_current
    with faults_told():
        if arguments.lookahead is not None:
            set_lookahead(arguments.bundle, arguments.lookahead, current)
        else:
            targets = arguments.tokens_per_list, arguments.latency_ms, arguments.quantile
            set_threshold(arguments.bundle, *targets, current)


def set_threshold(
    bundle: Path,
    tokens_per_list: float | None,
    latency_ms: float | None,
    quantile: float | None,
    current: bool = True,
) -> Manifest:
    """Set the threshold by the one target that is given, and store the curve; `current` as in `store`.

    Raises:
        BundleError: no bundle there.
        DataUnavailableError: its data set is unavailable.
        TargetError: the target cannot be reached.
    """
    if quantile is not None and not 0.0 <= quantile <= 1.0:
        raise TargetError(f"--quantile: between 0 and 1, got {quantile}")
    torch.set_num_threads(1)
    bundle = locate(bundle)
    model = LoadedModel.open(bundle)  # one thread, decoded as the service decodes it
    policy, dataset = load_policy(bundle, model.features), open_dataset(load_config(bundle))
    held_out = examples(dataset.slates["validation"], DatasetFeatures(model.features), training=False)
    points = curve(policy, model, held_out, held_out_score(dataset))
    if quantile is not None:
        calibration = calibrate(policy, held_out, quantile)
    elif tokens_per_list is not None:
        calibration = for_tokens(policy, held_out, tokens_per_list)
    else:
        assert latency_ms is not None
        calibration = for_tokens(policy, held_out, tokens_for_latency(points, latency_ms))
    calibration = calibration.model_copy(update={"curve": tuple(points)})
    show(points, calibration)
    return store(bundle, model.manifest, {"gate": calibration}, current)


def set_lookahead(bundle: Path, alternatives: int, current: bool = True) -> Manifest:
    """Set how many other items are tried at an uncertain position, and store the curve; `current` as in
    `store`.

    Raises:
        BundleError: no bundle there.
        DataUnavailableError: its data set is unavailable.
        TargetError: it has no evaluator, or the number is out of range.
    """
    if not 0 <= alternatives <= MOST_ALTERNATIVES:
        raise TargetError(f"--lookahead: between 0 and {MOST_ALTERNATIVES}, got {alternatives}")
    bundle = locate(bundle)
    model = LoadedModel.open(bundle)
    if model.lookahead is None:
        raise TargetError(f"--lookahead: {bundle} has no evaluator; export a run that has trained one")
    dataset = open_dataset(load_config(bundle))
    held_out = examples(dataset.slates["validation"], DatasetFeatures(model.features), training=False)
    points = lookahead_curve(model, held_out, held_out_score(dataset))
    table = Table(title="held-out lists, by lookahead")
    for column in ("alternatives", "lists judged", "score", "ms a list"):
        table.add_column(column, justify="right")
    for p in points:
        table.add_row(
            str(p.alternatives), f"{p.judged_per_list:.2f}", f"{p.score:.4f}", f"{p.ms_per_list:.3f}"
        )
    console.print(table)
    changes = {"lookahead": alternatives, "lookahead_curve": tuple(points)}
    return store(bundle, model.manifest, changes, current)


if __name__ == "__main__":
    main()
