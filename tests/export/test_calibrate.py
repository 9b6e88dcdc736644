"""Thresholds from targets, and the curve that is stored in the bundle."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import thread_time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bundle.manifest import CONFIG, MANIFEST, BundleError, CurvePoint, read_manifest, sha256
from bundle.repository import locate, point
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from engine.native.runner import NativeRunner
from export.calibrate import (
    ALTERNATIVES,
    QUANTILES,
    TargetError,
    set_lookahead,
    set_threshold,
    store,
    tokens_for_latency,
)
from export.parity import real_requests
from model.training.checkpoint import load_config

if TYPE_CHECKING:
    from tiny_bundle import TinyBundles

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's libraries warn of each other
NEVER, ALWAYS = math.inf, -1.0
ATTEMPTS = 8


@pytest.fixture(scope="module")
def bundle(trained_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, for its gate is changed."""
    return shutil.copytree(trained_bundle, tmp_path_factory.mktemp("calibrate") / "bundle")


def test_a_target_of_tokens_is_reached_and_served(bundle: Path) -> None:
    before = read_manifest(bundle)
    after = set_threshold(bundle, tokens_per_list=3.0, latency_ms=None, quantile=None)
    assert after.gate.tokens_per_list == pytest.approx(3.0, abs=0.3)
    assert read_manifest(bundle) == after  # hashes still hold
    assert after.hashes == before.hashes
    assert after.version == f"7+h{after.gate.threshold:.4f}"
    served = Controls.default(LoadedModel.open(bundle).manifest, 5)
    assert served.entropy_threshold == after.gate.threshold
    again = set_threshold(bundle, None, None, quantile=0.5)
    assert again.version == f"7+h{again.gate.threshold:.4f}"
    assert again.gate.trigger_rate == pytest.approx(0.5, abs=0.05)


def served_ms(bundle: Path, thresholds: Sequence[float]) -> list[float]:
    """Median milliseconds of a test list at each threshold, as it is served, thresholds in turns."""
    model = LoadedModel.open(bundle)
    assert isinstance(model.runner, NativeRunner)
    samples: list[list[float]] = [[] for _ in thresholds]
    requests = real_requests(bundle, model.features, model.manifest, 60)
    for _ in range(10):
        for threshold, taken in zip(thresholds, samples, strict=True):
            for arrays, default in requests:
                controls = replace(default, entropy_threshold=threshold)
                started = thread_time()
                model.generate([arrays], [controls])
                taken.append(1000 * (thread_time() - started))
    return [float(np.median(taken)) for taken in samples]


def with_budget(bundle: Path, budget: int) -> None:
    """As if the bundle had been trained with so many reasoning tokens per position."""
    config, manifest = load_config(bundle), read_manifest(bundle)
    reasoner = config.policy.reasoner.model_copy(update={"budget": budget})
    policy = config.policy.model_copy(update={"reasoner": reasoner})
    (bundle / CONFIG).write_text(config.model_copy(update={"policy": policy}).model_dump_json())
    hashes = manifest.hashes | {CONFIG: sha256(bundle / CONFIG)}
    changed = manifest.model_copy(update={"reasoning_budget": budget, "hashes": hashes})
    (bundle / MANIFEST).write_text(changed.model_dump_json())


def test_a_target_of_milliseconds_is_what_is_served(bundle: Path, tmp_path: Path) -> None:
    """Asked for is the middle of what can be had; again, where the machine has changed its speed since."""
    bundle = shutil.copytree(bundle, tmp_path / "bundle")
    with_budget(bundle, 8)  # that there is something to choose from
    for _ in range(ATTEMPTS):
        target = float(np.mean(served_ms(bundle, (NEVER, ALWAYS))))
        try:
            threshold = set_threshold(bundle, None, latency_ms=target, quantile=None).gate.threshold
        except TargetError as error:
            outcome = str(error)
            continue
        never, served, always = served_ms(bundle, (NEVER, threshold, ALWAYS))
        outcome = f"asked for {target:.3f} ms, got {served:.3f}, between {never:.3f} and {always:.3f}"
        if abs(served - target) < target / 3 and 0.2 < (served - never) / (always - never) < 0.8:
            return
    pytest.fail(outcome)


def test_the_curve_runs_from_never_to_always(bundle: Path) -> None:
    curve = set_threshold(bundle, None, None, quantile=0.6).gate.curve
    assert [point.quantile for point in curve] == list(QUANTILES)
    thresholds = [point.threshold for point in curve]
    assert thresholds == sorted(thresholds, reverse=True)
    tokens = [point.tokens_per_list for point in curve]
    assert tokens == sorted(tokens)
    assert tokens[0] == pytest.approx(0.0, abs=0.1)
    assert tokens[-1] == pytest.approx(20.0, abs=0.5)
    assert all(point.ms_per_list > 0 and math.isfinite(point.score) for point in curve)


def test_lookahead_is_set_beside_its_curve_and_served(
    bundle: Path, tmp_path: Path, tiny_bundles: "TinyBundles"
) -> None:
    bundle = shutil.copytree(bundle, tmp_path / "bundle")
    before = read_manifest(bundle)
    after = set_lookahead(bundle, 2)
    assert read_manifest(bundle) == after
    assert after.version == f"{before.version.split('+')[0]}+h{before.gate.threshold:.4f}a2"
    assert Controls.default(LoadedModel.open(bundle).manifest, 5).lookahead == 2
    curve = after.lookahead_curve
    assert [point.alternatives for point in curve] == list(ALTERNATIVES)
    judged = [point.judged_per_list for point in curve]
    assert judged == sorted(judged)
    assert judged[0] == 0.0 < judged[1]
    assert all(point.ms_per_list > 0 and math.isfinite(point.score) for point in curve)
    assert set_lookahead(bundle, 0).version == f"{before.version.split('+')[0]}+h{before.gate.threshold:.4f}"
    with pytest.raises(TargetError, match="--lookahead: between 0 and 100, got -1"):
        set_lookahead(bundle, -1)
    with pytest.raises(TargetError, match=r"--lookahead: .* has no evaluator"):
        set_lookahead(tiny_bundles(), 1)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"tokens_per_list": 21.0}, r"--tokens-per-list: between 0 and \d+\.\d+ can be had, got 21"),
        ({"tokens_per_list": -1.0}, "--tokens-per-list"),
        ({"latency_ms": 1e-4}, r"--latency-ms: between .* ms a list can be had here"),
        ({"quantile": 1.5}, "--quantile: between 0 and 1, got 1.5"),
    ],
)
def test_a_target_out_of_reach_says_what_can_be_had(bundle: Path, target, message: str) -> None:
    before = (bundle / MANIFEST).read_bytes()
    with pytest.raises(TargetError, match=message):
        set_threshold(bundle, **{"tokens_per_list": None, "latency_ms": None, "quantile": None, **target})
    assert (bundle / MANIFEST).read_bytes() == before


def test_a_latency_is_read_off_the_line() -> None:
    flat = CurvePoint(quantile=0, threshold=0, trigger_rate=0, tokens_per_list=0, score=0, ms_per_list=1)
    points = [
        flat.model_copy(update={"tokens_per_list": tokens, "ms_per_list": 1 + tokens / 10})
        for tokens in (0.0, 5.0, 10.0)
    ]
    assert tokens_for_latency(points, 1.4) == pytest.approx(4.0)
    with pytest.raises(TargetError, match=r"between 1\.000 and 2\.000 ms"):
        tokens_for_latency(points, 2.5)


def test_a_kill_while_writing_leaves_the_old_manifest(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_manifest(bundle)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.training.checkpoint.os.replace", die)
    with pytest.raises(KeyboardInterrupt):
        store(bundle, before, {"gate": before.gate})
    assert read_manifest(bundle) == before


def test_a_version_becomes_another_that_is_current_if_asked_for(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(bundle, folder / "7")
    point(folder, "7")
    before = read_manifest(folder / "7")
    for threshold, current in ((0.25, False), (0.5, True)):
        gate = before.gate.model_copy(update={"threshold": threshold})
        after = store(folder / "7", before, {"gate": gate}, current)
        assert read_manifest(folder / after.version).gate.threshold == threshold
        assert locate(folder).name == (after.version if current else "7")


def test_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        set_threshold(tmp_path, 1.0, None, None)
