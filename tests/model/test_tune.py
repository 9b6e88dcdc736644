"""Tuning: it begins with what is given, keeps to its minutes, goes on, and chooses on validation lists."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from eventually import eventually
from optuna.trial import TrialState
from small_run import CONFIGS

import model.tune
from model.data.open_dataset import open_dataset
from model.data.slate import LoggedSlate
from model.data.toml_file import as_toml, read_toml
from model.training.checkpoint import METRICS, SUMMARY, CheckpointError, alone_in, load_config
from model.training.config import RunConfig, read_config
from model.tune import (
    BEST,
    RESULT,
    SPACE,
    TuneError,
    Tuning,
    _beside,
    _try,
    lambdamart_score,
    main,
    report,
    tune,
)

LITTLE = {
    "dataset": "simulator",
    "simulator": {"items": 80, "lists": 300},
    "policy": {"width": 16, "encoder": {"token_width": 4}},
    "supervised": {"epochs": 2, "batch": 64},
    **{phase: {"epochs": 0} for phase in ("imitation", "reinforcement")},
}


def tuning(directory: Path, **changes: object) -> Tuning:
    features = read_toml(CONFIGS / "simulator.toml")["features"]
    values = {**LITTLE, "features": features, **changes}
    return Tuning(values, RunConfig.model_validate(values), directory)


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.toml")))
def test_a_configuration_is_written_as_it_is_read(name: str) -> None:
    values = read_toml(CONFIGS / name)
    assert tomllib.loads(as_toml(values)) == values


def test_what_toml_makes_hard_is_written() -> None:
    values = {"a b": 'x"\\\n', "list": [{"a": 1, "é": [1.5, True]}], "deep": {"er": {"x": 1e-5}, "y": -1}}
    assert tomllib.loads(as_toml(values)) == values
    assert tomllib.loads(as_toml({"none": None})) == {}


def test_only_what_is_trained_is_tuned() -> None:
    assert {name.split(".")[0] for name in tuning(Path()).given()} == {"policy", "supervised"}
    simulator = read_toml(CONFIGS / "simulator.toml")
    found = Tuning(simulator, RunConfig.model_validate(simulator), Path()).given()
    assert {name.split(".")[0] for name in found} == {
        *("policy", "evaluator", "imitation", "expert_iteration"),
    }
    everything = {
        "imitation": {"epochs": 1},
        "expert_iteration": {"rounds": 1},
        "reinforcement": {"epochs": 1},
    }
    assert tuning(Path(), **everything).given().keys() == SPACE.keys()


def test_tuning_is_never_worse_than_what_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of minutes at first; then it goes on where it was."""
    with monkeypatch.context() as patch:
        patch.setattr(model.tune, "_try", lambda *arguments: _try(*arguments[:-1], 0.0))
        with pytest.raises(TuneError, match=r"did not come to its end in 10 minutes"):
            tune(tuning(tmp_path), 10.0, trials=1)
    study = tune(tuning(tmp_path), 10.0, trials=2)
    ended, first, second = study.trials
    assert (ended.state, ended.user_attrs["told"]) == (TrialState.PRUNED, "ended: the minutes were over")
    assert first.params == ended.params == tuning(tmp_path).given()
    assert first.user_attrs["run"] == ended.user_attrs["run"] == "trials/000"
    assert first.state is second.state is TrialState.COMPLETE
    assert second.user_attrs["changes"]
    told = report(tuning(tmp_path), study)
    assert "The test lists were not looked at" in told
    result = json.loads((tmp_path / RESULT).read_text())
    assert (result["as given"], result["best"]) == (first.value, study.best_value)
    assert result["LambdaMART"] == study.user_attrs["LambdaMART"]
    assert f"has {result['LambdaMART']:.4f}: " in told
    best = read_config(tmp_path / BEST)
    assert study.best_value >= first.value
    assert best == load_config(tmp_path / study.best_trial.user_attrs["run"])
    with pytest.raises(TuneError, match="another configuration"):
        tune(tuning(tmp_path, seed=1), 10.0)


def test_lambdamart_beside_the_trials_ranks_validation_lists(tmp_path: Path) -> None:
    """Of the simulator, where what they are worth is known: better than as shown, no better than can be."""
    given = tuning(tmp_path, simulator={"items": 80, "lists": 600})
    dataset = open_dataset(given.config)
    assert dataset.true_value is not None
    assert dataset.oracle is not None
    lists, length = dataset.slates["validation"], given.config.policy.slate_length

    def mean(order: Callable[[LoggedSlate], Sequence[int]]) -> float:
        return float(np.mean([dataset.true_value(one, order(one)[:length]) for one in lists]))

    found = lambdamart_score(given.config, tmp_path)
    assert mean(lambda one: one.shown.tolist()) < found < mean(lambda one: dataset.oracle(one, length))


@pytest.mark.parametrize(
    ("ranker", "told"),
    [
        (0.25, "less than the configuration as given, by 0.0500, without tuning"),
        (0.325, "more than as given, less than the best trial, by 0.0250"),
        (0.35, "no trial is ahead of it, the best is 0.0000 behind"),
        (0.5, "no trial is ahead of it, the best is 0.1500 behind"),
    ],
)
def test_the_end_says_whether_lambdamart_would_do(ranker: float, told: str) -> None:
    assert told in _beside(ranker, 0.3, 0.35)


async def test_a_training_ends_with_a_search_that_is_killed(tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "config.toml"
    path.write_text(as_toml(tuning(run, supervised={"epochs": 500}).values))
    command = [sys.executable, "-m", "model.tune", "--config", str(path), "--run", str(run)]

    def goes_on() -> bool:
        try:
            with alone_in(run / "trials/000"):
                return False
        except CheckpointError:
            return True

    with subprocess.Popen(command, cwd=CONFIGS.parent) as search:
        await eventually((run / "trials/000" / METRICS).exists)
        assert goes_on()
        search.kill()
    await eventually(lambda: not goes_on(), 10)
    assert not (run / "trials/000" / SUMMARY).exists()


@pytest.mark.slow
def test_a_configuration_that_fails_as_given_is_told_at_once(tmp_path: Path) -> None:
    gone = tuning(tmp_path, dataset="event_log", event_log=str(tmp_path / "gone.jsonl"))
    with pytest.raises(TuneError, match=r"as given fails: exit status 1: .*gone\.jsonl"):
        tune(gone, 10.0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--minutes", "0"], "expected minutes above 0, got 0"),
        (["--minutes", "nan"], "expected minutes above 0, got nan"),
        ([], "holds a training; give another --run"),
    ],
)
def test_what_cannot_be_searched_is_told(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / SUMMARY).write_text("{}")
    given = ["tune", "--config", str(CONFIGS / "simulator.toml"), "--run", str(tmp_path), *arguments]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as ended:
        main()
    assert told in f"{ended.value} {capsys.readouterr().err}"
    assert [path.name for path in tmp_path.iterdir()] == [SUMMARY]
