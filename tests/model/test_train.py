"""Whole small runs: what they leave, that a seed repeats, and that a killed one resumes."""

from pathlib import Path

import pytest
import torch
from small_run import small_config

from model import train
from model.data.location import DataUnavailableError
from model.training import phase
from model.training.checkpoint import CheckpointError, load_features, load_gate, load_policy, load_summary


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "small"
    train.train(small_config(), run)
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_policy(run, load_features(run)).state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_all_that_export_needs(finished: Path) -> None:
    result = load_summary(finished)
    assert list(result["held_out"]) == ["warm start", "imitation", "grpo"]
    assert result["held_out"][result["kept"]] == max(result["held_out"].values())
    assert 0 < load_gate(finished).trigger_rate < 1
    rows = (finished / "metrics.csv").read_text().splitlines()
    assert rows[0] == "phase,epoch,metric,value"
    assert {row.split(",")[0] for row in rows[1:]} == {"evaluator", "warm_start", "imitation", "grpo"}
    assert list((finished / "tensorboard").iterdir())


def test_the_same_seed_gives_the_same_weights(finished: Path, tmp_path: Path) -> None:
    train.train(small_config(), tmp_path / "again")
    assert same(weights(finished), weights(tmp_path / "again"))
    train.train(small_config(seed=1), tmp_path / "other")
    assert not same(weights(finished), weights(tmp_path / "other"))


@pytest.mark.parametrize("epochs_before_the_kill", [1, 5, 7, 8])
def test_a_killed_run_resumes_to_the_same_weights(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs_before_the_kill: int
) -> None:
    written = 0
    save = phase.Phase._save

    def save_and_die(self: phase.Phase) -> None:
        nonlocal written
        save(self)
        written += 1
        if written == epochs_before_the_kill:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(phase.Phase, "_save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train.train(small_config(), tmp_path / "run")
    with pytest.raises(CheckpointError):
        load_policy(tmp_path / "run", load_features(tmp_path / "run"))
    train.train(small_config(), tmp_path / "run")
    assert same(weights(finished), weights(tmp_path / "run"))


def test_a_run_is_not_overwritten_by_another_configuration(finished: Path) -> None:
    with pytest.raises(CheckpointError, match="another configuration"):
        train.train(small_config(seed=7), finished)


def test_an_event_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = small_config(dataset="event_log", event_log=tmp_path / "gone.jsonl")
    with pytest.raises(DataUnavailableError, match=r"gone\.jsonl"):
        train.train(config, tmp_path / "run")
