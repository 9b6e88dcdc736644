"""Whole small runs: what they leave, that a seed repeats, and that a killed one resumes."""

import json
import re
from pathlib import Path

import pytest
import torch
from small_run import small_config

from model import train
from model.data.findings import EventLogError
from model.data.location import DataUnavailableError
from model.evaluator import EvaluatorEnsemble
from model.progress import console
from model.training import expert_iteration, phase
from model.training.checkpoint import (
    CheckpointError,
    load_evaluator,
    load_features,
    load_gate,
    load_policy,
    load_summary,
)
from model.training.config import with_changes
from model.training.examples import to_batch


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run; what it said is in `said.txt` beside it."""
    run = tmp_path_factory.mktemp("runs") / "small"
    with console.capture() as said:
        train.train(small_config(), run)
    run.with_name("said.txt").write_text(said.get())
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_policy(run, load_features(run)).state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_all_that_export_needs(finished: Path) -> None:
    result = load_summary(finished)
    assert list(result["held_out"]) == [
        *("warm start", "imitation", "expert iteration 1", "expert iteration 2", "grpo"),
    ]
    assert result["held_out"][result["kept"]] == max(result["held_out"].values())
    assert 0 < load_gate(finished).trigger_rate < 1
    rows = (finished / "metrics.csv").read_text().splitlines()
    assert rows[0] == "phase,epoch,metric,value"
    assert {row.split(",")[0] for row in rows[1:]} == {
        *("evaluator", "evaluator_2", "blind_evaluator", "warm_start", "imitation", "grpo"),
        *("expert_iteration_1", "expert_iteration_2"),
    }
    assert list((finished / "tensorboard").iterdir())


def test_a_run_says_what_is_ahead_and_how_far_it_is(finished: Path) -> None:
    said = finished.with_name("said.txt").read_text()
    told = re.search(r"^ahead, at most: (.+)$", said, re.MULTILINE)
    assert told
    ahead = [(name, int(epochs)) for name, epochs in re.findall(r"(\w+) (\d+) epochs", told[1])]
    lines = re.findall(
        r"^(\w+) epoch (\d+) of (\d+) .* seconds \S+(?:  \*)?(  at most .+ left)?$", said, re.M
    )
    assert list(dict.fromkeys((name, int(epochs)) for name, _, epochs, _ in lines)) == ahead
    for name, _ in ahead:
        numbers, left = zip(
            *((int(number), bool(left)) for own, number, _, left in lines if own == name), strict=True
        )
        assert numbers == tuple(range(1, len(numbers) + 1))
        assert left == (True,) * (len(left) - 1) + (False,)


def test_a_run_ends_with_whether_to_reason(finished: Path) -> None:
    last = finished.with_name("said.txt").read_text().splitlines()[-1]
    assert last.startswith("lists may gain from reasoning: order and neighbours are worth +")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(finished: Path, tmp_path: Path) -> None:
    train.train(small_config(), tmp_path / "again")
    assert same(weights(finished), weights(tmp_path / "again"))


@pytest.mark.slow
def test_another_seed_gives_other_weights(finished: Path, tmp_path: Path) -> None:
    train.train(small_config(seed=1), tmp_path / "other")
    assert not same(weights(finished), weights(tmp_path / "other"))


@pytest.mark.parametrize(
    "epochs_before_the_kill", [12, *(pytest.param(n, marks=pytest.mark.slow) for n in (6, 10, 14))]
)
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


@pytest.mark.parametrize("search", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_killed_while_looking_ahead_resumes_to_the_same_weights(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: int
) -> None:
    started = 0
    look_ahead = expert_iteration.look_ahead

    def look_and_die(*arguments: object) -> object:
        nonlocal started
        started += 1
        if started == search:
            raise KeyboardInterrupt
        return look_ahead(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(expert_iteration, "look_ahead", look_and_die)
        with pytest.raises(KeyboardInterrupt):
            train.train(small_config(), tmp_path / "run")
    assert (tmp_path / "run/expert_iteration_1.state.pt").exists() == (search > 2)
    train.train(small_config(), tmp_path / "run")
    assert same(weights(finished), weights(tmp_path / "run"))


def test_a_run_keeps_its_evaluators(finished: Path, data) -> None:
    training, *_ = data
    evaluator = load_evaluator(finished, load_features(finished))
    assert isinstance(evaluator, EvaluatorEnsemble)
    first, second = (dict(member.named_parameters()) for member in evaluator.networks)
    assert not same(first, second)
    batch = to_batch(training[:4])
    assert evaluator.reward(evaluator.encode(batch.inputs), batch.shown).shape == (4,)


def test_a_run_is_not_overwritten_by_another_configuration(finished: Path) -> None:
    with pytest.raises(CheckpointError, match="another configuration"):
        train.train(small_config(seed=7), finished)


def test_an_event_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = small_config(dataset="event_log", event_log=tmp_path / "gone.jsonl")
    with pytest.raises(DataUnavailableError, match=r"gone\.jsonl"):
        train.train(config, tmp_path / "run")


def test_a_base_score_wants_lists_that_came_with_scores(tmp_path: Path) -> None:
    items = [{"id": item, "fields": [{"name": "relevancy", "value": 0}]} for item in "ab"]
    events = [
        {"event": "ranking", "id": f"r{n}", "user": f"u{n}", "timestamp": "1", "items": items}
        for n in range(20)
    ]
    events += [{"event": "interaction", "ranking": f"r{n}", "item": "a", "type": "click"} for n in range(20)]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(event) + "\n" for event in events))
    config = small_config(dataset="event_log", event_log=log, policy={"base_score": True})
    with pytest.raises(EventLogError, match="initial_score: no list has scores"):
        train.train(config, tmp_path / "run")


def test_quick_shortens_what_is_there_and_adds_nothing() -> None:
    simulated = train.quick(small_config(supervised={"epochs": 0}, reinforcement={"epochs": 0}))
    assert (simulated.supervised.epochs, simulated.reinforcement.epochs) == (0, 0)
    assert (simulated.training_lists, simulated.evaluator.members) == (2000, 1)
    assert not simulated.evaluator.context
    assert (simulated.imitation.epochs, simulated.expert_iteration.rounds) == (1, 0)
    shorter = train.quick(small_config(training_lists=100, reinforcement={"epochs": 9}))
    assert (shorter.training_lists, shorter.reinforcement.epochs) == (100, 1)
    assert shorter.features == simulated.features


AGAIN = {
    **{phase: {"epochs": 0} for phase in ("supervised", "imitation", "reinforcement")},
    "expert_iteration": {"rounds": 1, "epochs": 1},
    "selection": "evaluator",
    "policy_lists": 300,
}


def test_a_run_starts_from_an_earlier_ones_weights(finished: Path, tmp_path: Path) -> None:
    """Its evaluators' as well; without `warm_epochs` these stay what they were."""
    for epochs in (0, 1):
        changes = {"evaluator": {"warm_epochs": epochs, "context": False}}
        train.train(with_changes(small_config(**AGAIN), changes), tmp_path / str(epochs), finished)
    same_evaluator, refitted = tmp_path / "0", tmp_path / "1"
    before = load_evaluator(finished, load_features(finished)).state_dict()
    for run, kept in ((same_evaluator, True), (refitted, False)):
        assert same(before, load_evaluator(run, load_features(run)).state_dict()) == kept
    assert load_features(refitted).fitted == load_features(finished).fitted
    result = load_summary(same_evaluator)
    assert list(result["held_out"]) == ["earlier weights", "expert iteration 1"]
    assert result["held_out"]["expert iteration 1"] >= result["held_out"]["earlier weights"]
    rows = [row.split(",") for row in (refitted / "metrics.csv").read_text().splitlines()]
    assert {metric for phase, _, metric, _ in rows if phase == "expert_iteration_1"} >= {"evaluator_score"}
    assert {phase for phase, *_ in rows[1:]} == {"evaluator", "evaluator_2", "expert_iteration_1"}


def test_no_run_starts_from_one_of_other_networks(finished: Path, tmp_path: Path) -> None:
    for name, changes in {
        "policy": {"policy": {"width": 8}},
        "evaluator": {"evaluator": {"members": 1}},
        "features": {"features": {"initial_score": False}},
    }.items():
        with pytest.raises(CheckpointError, match=f"its {name} is configured otherwise"):
            train.train(small_config(**changes), tmp_path / name, finished)
