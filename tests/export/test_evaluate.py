"""From a training run to figures, by the same functions as the command lines."""

from pathlib import Path

import pytest

from bundle.manifest import read_manifest
from bundle.repository import locate
from export.__main__ import export
from export.evaluate import evaluate, show
from export.parity import check_bundle
from model.training.checkpoint import CheckpointError

CONFIGS = Path(__file__).parents[2] / "configs"

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's libraries warn of each other


def test_a_bundle_says_what_it_is(trained_bundle: Path) -> None:
    manifest = read_manifest(trained_bundle)
    assert (manifest.name, manifest.version, manifest.dataset) == ("simulated", "7", "simulator")
    assert manifest.training["kept"] == "warm start"
    assert 0.1 < manifest.gate.trigger_rate < 0.6
    folder = trained_bundle.parent
    assert locate(folder) == trained_bundle
    assert not folder.with_name(f"{folder.name}.partial").exists()


def test_real_lists_agree_with_torch(trained_bundle: Path) -> None:
    results = check_bundle(trained_bundle, random=20, real=60)
    assert results["slate graph, real"].lists == 60


def test_the_report_compares_with_the_baselines(
    trained_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = evaluate(trained_bundle, "test")
    assert set(report["metrics"]) == {
        "initial order",
        "LambdaMART",
        "EGLR (deep)",
        "EGLR, reasoning off",
    }
    for metrics in report["metrics"].values():
        assert 0 < metrics["ndcg@10"] < 1
        assert 0 < metrics["true_value"] < 10
    reasoning = report["reasoning"]
    assert len(reasoning["entropy_before"]) == len(reasoning["entropy_after"]) == 10
    assert reasoning["reasoning_tokens_per_list"] <= 20
    show(report)
    assert "trigger rate" in capsys.readouterr().out


def test_an_unfinished_run_is_not_trained_bundle(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no training run"):
        export(tmp_path, tmp_path / "bundle")
