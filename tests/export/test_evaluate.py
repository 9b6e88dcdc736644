"""From a training run to figures, by the same functions as the command lines."""

from pathlib import Path

import numpy as np
import pytest

from export.__main__ import export
from export.evaluate import evaluate, paired_interval, show
from export.parity import check_bundle
from model import train
from model.checkpoint import CheckpointError
from model.config import read_config
from model.manifest import read_manifest

CONFIGS = Path(__file__).parents[2] / "configs"

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's libraries warn of each other


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("path")
    config = train.with_changes(
        read_config(CONFIGS / "simulator.toml"),
        {
            "simulator": {"items": 200, "lists": 600},
            "policy": {"width": 16, "encoder": {"token_width": 4}},
            "evaluator": {"width": 16, "epochs": 1},
            "supervised": {"epochs": 2},
            "imitation": {"epochs": 0},
        },
    )
    train.train(config, root / "run")
    export(root / "run", root / "bundle", version="7")
    return root / "bundle"


def test_a_bundle_says_what_it_is(exported: Path) -> None:
    manifest = read_manifest(exported)
    assert (manifest.name, manifest.version, manifest.dataset) == ("eglr", "7", "simulator")
    assert manifest.training["kept"] == "warm start"
    assert 0.1 < manifest.gate.trigger_rate < 0.6
    assert not exported.with_name("bundle.partial").exists()


def test_real_lists_agree_with_torch(exported: Path) -> None:
    results = check_bundle(exported, random=20, real=60)
    assert results["slate graph, real"].lists == 60


def test_the_report_compares_with_the_baselines(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluate(exported, "test")
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


def test_an_unfinished_run_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no training run"):
        export(tmp_path, tmp_path / "bundle")


def test_the_paired_interval_holds_the_mean() -> None:
    differences = np.random.default_rng(0).normal(0.1, 1.0, size=400)
    low, high = paired_interval(differences)
    assert low < differences.mean() < high
    assert high - low == pytest.approx(4 * differences.std() / 20, rel=0.15)
