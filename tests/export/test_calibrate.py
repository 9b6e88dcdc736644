"""Thresholds from targets, and the curve that is stored in the bundle."""

import json
import math
import shutil
from pathlib import Path

import pytest

from bundle.manifest import MANIFEST, BundleError, CurvePoint, Gate, read_manifest
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from export.calibrate import QUANTILES, TargetError, set_gate, set_threshold, tokens_for_latency

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's libraries warn of each other
CONFIGS = Path(__file__).parents[2] / "configs"


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
    with pytest.raises(TargetError, match=r"between 1\.00 and 2\.00 ms"):
        tokens_for_latency(points, 2.5)


def test_a_bundle_from_before_there_were_curves_still_loads(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest["gate"]["curve"]
    assert Gate.model_validate(manifest["gate"]).curve == ()


def test_a_kill_while_writing_leaves_the_old_manifest(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_manifest(bundle)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.training.checkpoint.os.replace", die)
    with pytest.raises(KeyboardInterrupt):
        set_gate(bundle, before, before.gate)
    assert read_manifest(bundle) == before


def test_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        set_threshold(tmp_path, 1.0, None, None)
