"""Whole rounds in a tiny world: a real service, restarted, retrained, judged and replaced."""

from pathlib import Path

import pytest
import torch

from bundle.repository import locate, versions
from loop.config import ARMS, MAIN, LoopConfig, read
from loop.place import Place, rounds_of
from loop.ranker import RankerArm
from loop.served import ServedArm
from loop.traffic import LoopError
from model.training.checkpoint import load_evaluator, load_features, load_policy

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's libraries warn of each other

TINY = {
    "worlds": (0,),
    "rounds": 2,
    "lists": 150,
    "exploration_share": 0.3,
    "connections": 4,
    "repeated": 0.2,
    "first": {
        "simulator": {"items": 200, "lists": 1500, "strength": 2.0},
        "policy": {"width": 16, "encoder": {"token_width": 4}},
        "evaluator": {
            **{"width": 16, "members": 2, "epochs": 4, "batch": 32, "learning_rate": 1e-2},
            "context": False,
        },
        "imitation": {"epochs": 1, "beams": 2},
        "expert_iteration": {"rounds": 1, "epochs": 1},
    },
    "again": {
        "policy_lists": 100,
        "evaluator": {"warm_epochs": 1},
        "imitation": {"epochs": 0},
        "expert_iteration": {"rounds": 1, "epochs": 1, "batch": 16},
    },
    "limits": {"parity_lists": 4, "timed_lists": 4, "time": 50.0, "trigger_rate": 1.0},
}


def config(**changes: object) -> LoopConfig:
    return LoopConfig.model_validate({**TINY, **changes})


@pytest.mark.slow
def test_a_policy_goes_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after serving, it goes on from there."""
    torch.set_num_threads(1)
    arm = ARMS[MAIN]
    with monkeypatch.context() as patch:

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(ServedArm, "_retrained", die)
        with pytest.raises(KeyboardInterrupt):
            ServedArm(Place(config(), 0, tmp_path), arm).run()
    folder = tmp_path / "world-0" / "EGLR"
    assert len(rounds_of(folder)) == 1
    served = (folder / "round-1" / "served.json").stat().st_mtime_ns
    ServedArm(Place(config(), 0, tmp_path), arm).run()
    assert (folder / "round-1" / "served.json").stat().st_mtime_ns == served
    records = rounds_of(folder)
    assert [record["round"] for record in records] == [0, 1, 2]
    for record in records[1:]:
        assert record["requests"]["failed"] == 0
        assert (record["requests"]["lists"], record["requests"]["other_versions"]) == (150, 0)
        feedback = record["feedback"]
        assert feedback["decisions"] == 150
        assert feedback["events"] == feedback["joined"] == record["requests"]["accepted"] > 0
        assert [feedback[name] for name in ("unseen", "missing", "lost", "doubled", "unknown")] == [0] * 5
        assert record["served"]["restarted"] == (record["round"] == 1)
        assert record["refused"] or record["promotion"]["sent"] == record["promotion"]["answered"] > 0
    assert records[2]["requests"]["unanswered"] == 0
    models = folder / "eglr"
    assert sorted(versions(models)) == ["0", "1", "2"]
    assert locate(models).name == records[-1]["version"]


@pytest.mark.slow
def test_an_arm_keeps_its_evaluator_and_shares_the_first_training(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    arm = ARMS["without refitting the evaluator"]
    ServedArm(Place(config(rounds=1), 0, tmp_path), arm).run()
    (start,) = (tmp_path / "world-0").glob("start-*")
    run = tmp_path / "world-0" / arm.folder / "round-1" / "run"
    before, after = (load_evaluator(one, load_features(one)).state_dict() for one in (start, run))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert load_features(run).fitted == load_features(start).fitted
    assert load_policy(run, load_features(run)).config == load_policy(start, load_features(start)).config
    main = ServedArm(Place(config(rounds=1), 0, tmp_path), ARMS[MAIN])
    assert main._first_run() == start


def test_lambdamart_goes_round_and_goes_on(tmp_path: Path) -> None:
    arm = ARMS["LambdaMART"]
    small = {"simulator": {"items": 200, "lists": 400}}
    RankerArm(Place(config(rounds=1, first=small), 0, tmp_path / "a"), arm).run()
    RankerArm(Place(config(rounds=2, first=small), 0, tmp_path / "a"), arm).run()
    RankerArm(Place(config(rounds=2, first=small), 0, tmp_path / "b"), arm).run()
    resumed, whole = (rounds_of(tmp_path / name / "world-0" / "LambdaMART") for name in "ab")
    assert [record["value"] for record in resumed] == [record["value"] for record in whole]
    assert [record["round"] for record in whole] == [0, 1, 2]
    assert whole[1]["served"]["lists"] == 150
    assert (
        whole[0]["value"][0] > Place(config(first=small), 0, tmp_path / "b").references["random order"].mean()
    )


def test_other_settings_want_another_folder(tmp_path: Path) -> None:
    Place(config(), 0, tmp_path).of_arm(ARMS[MAIN])
    Place(config(rounds=9, connections=1), 0, tmp_path).of_arm(ARMS[MAIN])
    with pytest.raises(LoopError, match="EGLR has rounds of other settings"):
        Place(config(lists=10), 0, tmp_path).of_arm(ARMS[MAIN])


def test_the_loop_of_the_project_is_configured(tmp_path: Path) -> None:
    found = read(Path(__file__).parents[2] / "configs/loop.toml", {"rounds": 3})
    assert (found.rounds, found.restart_in) == (3, 1)
    for arm in ARMS.values():
        first, again = (found.run_config(2, arm, again) for again in (False, True))
        assert (first.seed, first.simulator.seed, first.simulator.lists) == (2, 2, 8000)
        assert first.policy == again.policy
        assert first.policy.reasoner.budget == (0 if arm.name == "without reasoning" else 2)
        assert again.evaluator.warm_epochs == (0 if "refitting" in arm.name else 3)
        assert again.expert_iteration.rounds
        assert found.share(arm) == (0.0 if arm.name == "without exploration" else 0.1)
    assert found.gate.time == 2.0
    (tmp_path / "wrong.toml").write_text("roundz = 3\n")
    with pytest.raises(ValueError, match="roundz"):
        read(tmp_path / "wrong.toml", {})
    with pytest.raises(ValueError, match="limits: no times; there are parity_lists"):
        config(limits={"times": 2.0})
