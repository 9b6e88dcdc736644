"""Metrics, advantages, losses, the evaluator, and whole small training runs."""

import copy
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.contract import NO_ITEM
from model import train
from model.data.features import DatasetFeatures
from model.data.location import DataUnavailableError
from model.data.open_dataset import open_dataset
from model.evaluator import Evaluator, EvaluatorEnsemble
from model.metrics import average_precision, ndcg, summary
from model.policy import Policy
from model.sizes import feature_sizes
from model.training import expert_iteration, phase
from model.training.advantage import group_advantages
from model.training.beam import best_slates
from model.training.checkpoint import (
    CheckpointError,
    load_evaluator,
    load_features,
    load_gate,
    load_policy,
    load_summary,
)
from model.training.config import EvaluatorConfig, ReinforcementConfig, RunConfig, read_config
from model.training.examples import Example, batch_indices, batches, examples, to_batch
from model.training.fit_evaluator import EvaluatorRejectedError, EvaluatorReport, calibration_error, report
from model.training.fit_policy import NEVER, calibrate, decode
from model.training.grpo import collect, grpo_loss
from model.training.supervised import label_teacher, slate_teacher, supervised_loss

CONFIGS = Path(__file__).parents[3] / "configs"
SMALL = {
    "simulator": {"items": 200, "lists": 1500, "strength": 2.0},
    "policy": {"width": 16, "encoder": {"token_width": 4}},
    "evaluator": {"width": 16, "members": 2, "epochs": 4, "batch": 32, "learning_rate": 1e-2},
    "supervised": {"epochs": 2},
    "imitation": {"epochs": 1, "beams": 2},
    "expert_iteration": {"rounds": 2, "epochs": 1},
    "reinforcement": {"epochs": 1, "group": 4},
}


def small_config(**changes: object) -> RunConfig:
    return train.with_changes(read_config(CONFIGS / "simulator.toml"), {**SMALL, **changes})


@pytest.fixture(scope="module")
def data() -> tuple[list[Example], list[Example], RunConfig, DatasetFeatures]:
    config = small_config()
    dataset = open_dataset(config)
    features = DatasetFeatures.fit(dataset, config.features)
    training = examples(dataset.slates["train"], features, training=True)
    return training, examples(dataset.slates["validation"], features, training=False), config, features


def fresh_policy(config: RunConfig, features: DatasetFeatures) -> Policy:
    torch.manual_seed(0)
    return Policy(config.policy, feature_sizes(features.serving)).eval()


def test_ranking_metrics_by_hand() -> None:
    slates, labels = [np.array([2, 0, 1, 3])], [np.array([1, 0, 1, 0], np.float32)]
    assert ndcg(slates, labels, 1) == pytest.approx([1.0])
    assert ndcg([np.array([1, 0, 2])], labels, 3) == pytest.approx(
        [(1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3))]
    )
    assert average_precision([np.array([1, 0, 2])], labels, 10) == pytest.approx([(1 / 2 + 2 / 3) / 2])
    assert summary(slates, labels)["clicks@10"] == 2.0


def test_a_slate_shorter_than_k_gains_nothing_past_its_end() -> None:
    labels = [np.array([1, 1, 1], np.float32)]
    assert ndcg([np.array([0])], labels, 3)[0] == pytest.approx(1 / (1 + 1 / math.log2(3) + 1 / 2))


def test_advantages_are_standardised_and_constant_groups_skipped() -> None:
    advantages, useful = group_advantages(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
    assert advantages.tolist() == [[-1.0, 1.0], [0.0, 0.0]]
    assert useful.tolist() == [True, False]


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.1, 0.1, 0.9, 0.9])
    assert calibration_error(probability, np.array([0, 0, 1, 1.0]), bins=2) == pytest.approx(0.1)
    assert calibration_error(probability, np.array([1, 0, 1, 0.0]), bins=2) == pytest.approx(0.4)


GOOD = EvaluatorReport(
    log_loss=0.4,
    base_log_loss=0.5,
    calibration_error=0.01,
    ndcg=0.6,
    initial_ndcg=0.4,
    order_gain=0.01,
    order_gain_error=0.001,
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ndcg": 0.3}, "NDCG"),
        ({"calibration_error": 0.2}, "calibration error 0.200"),
        ({"order_gain": -0.001}, "two orders"),
    ],
)
def test_an_evaluator_that_fails_a_check_stops_training(change: dict[str, float], message: str) -> None:
    GOOD.check(0.05)
    with pytest.raises(EvaluatorRejectedError, match=message):
        GOOD.model_copy(update=change).check(0.05)


@torch.no_grad()
def test_the_evaluator_knows_order_and_ignores_padding(data) -> None:
    training, _, _, features = data
    torch.manual_seed(0)
    evaluator = Evaluator(EvaluatorConfig(width=16), feature_sizes(features.serving)).eval()
    batch = to_batch(training[:3])
    candidates = evaluator.encode(batch.inputs)
    slate = torch.tensor([[3, 1, 2], [0, 1, 2], [5, 4, 3]])
    padded = torch.cat([slate, torch.full((3, 2), NO_ITEM)], dim=1)
    torch.testing.assert_close(
        evaluator.logits(candidates, padded)[:, :3], evaluator.logits(candidates, slate)
    )
    torch.testing.assert_close(evaluator.reward(candidates, padded), evaluator.reward(candidates, slate))
    assert not torch.allclose(
        evaluator.reward(candidates, slate), evaluator.reward(candidates, slate.flip(1)), atol=1e-4
    )
    probabilities = evaluator.logits(candidates, slate).sigmoid()
    discount = 1 / torch.log2(torch.tensor([2.0, 3.0, 4.0]))
    torch.testing.assert_close(evaluator.reward(candidates, slate), (probabilities * discount).sum(1))


@torch.no_grad()
def test_an_ensemble_is_the_mean_of_its_members(data) -> None:
    training, _, _, features = data
    torch.manual_seed(0)
    sizes = feature_sizes(features.serving)
    members = [Evaluator(EvaluatorConfig(width=16), sizes).eval() for _ in range(3)]
    for member in members:  # sure of themselves, and not of one mind
        member.click[-1].weight.mul_(40.0)
    ensemble = EvaluatorEnsemble(members).eval()
    batch = to_batch(training[:3])
    slate = torch.tensor([[3, 1, 2, 7], [0, 1, NO_ITEM, NO_ITEM], [5, 4, 3, 0]])
    own = [member.encode(batch.inputs) for member in members]
    candidates = ensemble.encode(batch.inputs)
    rewards = torch.stack([m.reward(c, slate) for m, c in zip(members, own, strict=True)])
    torch.testing.assert_close(ensemble.reward(candidates, slate), rewards.mean(0))
    assert (rewards.std(0) > 0.01).all()

    so_far, read = ensemble.start(candidates), [m.start(c) for m, c in zip(members, own, strict=True)]
    rows = torch.arange(3)
    for position in range(3):
        item = slate[:, position].clamp(min=0)
        clicks = torch.stack(
            [m.next_logits(c, r).sigmoid() for m, c, r in zip(members, own, read, strict=True)]
        )
        torch.testing.assert_close(ensemble.next_logits(candidates, so_far).sigmoid(), clicks.mean(0))
        so_far = ensemble.read(so_far, candidates[rows, item])
        read = [m.read(r, c[rows, item]) for m, r, c in zip(members, read, own, strict=True)]


@torch.no_grad()
def test_the_evaluator_takes_lists_longer_than_its_positions(data) -> None:
    training, _, _, features = data
    evaluator = Evaluator(EvaluatorConfig(width=16, longest=4), feature_sizes(features.serving)).eval()
    batch = to_batch(training[:2])
    logits = evaluator.logits(evaluator.encode(batch.inputs), batch.shown)
    assert logits.shape == batch.shown.shape == (2, 10)


def test_an_untrained_evaluator_is_reported_as_one(data) -> None:
    _, held_out, _, features = data
    torch.manual_seed(0)
    evaluator = Evaluator(EvaluatorConfig(width=16), feature_sizes(features.serving)).eval()
    found = report(evaluator, held_out, seed=0)
    assert found.log_loss > found.base_log_loss
    with pytest.raises(EvaluatorRejectedError):
        found.check(0.05)


LENGTHS = [24, 1000, 24, 50, 24, 50, 2000, 50, 24, 24]


def of_lengths(lengths: list[int]) -> list[Example]:
    return [Example({}, np.zeros(length, np.float32), np.arange(10)) for length in lengths]


def test_batches_in_order_are_bounded_by_their_candidates() -> None:
    found = batch_indices(of_lengths(LENGTHS), 3, candidates=1000)
    assert found == [[0], [1], [2, 3, 4], [5], [6], [7, 8, 9]]  # 2,000 candidates are alone


def test_shuffled_batches_have_lists_of_like_length() -> None:
    cuts = [
        batch_indices(of_lengths(LENGTHS), 3, torch.Generator().manual_seed(seed), candidates=1000)
        for seed in range(5)
    ]
    assert len({str(cut) for cut in cuts}) > 1
    for cut in cuts:
        assert sorted(index for batch in cut for index in batch) == list(range(len(LENGTHS)))
        lengths = sorted(sorted(LENGTHS[index] for index in batch) for batch in cut)
        assert lengths == [[24, 24, 24], [24, 24, 50], [50, 50], [1000], [2000]]


def test_batches_without_a_bound_are_of_the_asked_size() -> None:
    shuffled = batch_indices(of_lengths(LENGTHS), 4, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in shuffled] == [4, 4, 2]
    assert batch_indices(of_lengths(LENGTHS), 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batch_indices([], 4, candidates=10) == []


def test_the_supervised_loss_falls(data) -> None:
    training, _, config, features = data
    policy, generator = fresh_policy(config, features), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    losses = []
    for batch in list(batches(training, 64)) * 4:
        loss = supervised_loss(policy, batch.inputs, label_teacher(batch.labels, 0.5, generator), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.02
    assert all(parameter.grad is not None for parameter in policy.reasoner.parameters())


@pytest.mark.parametrize("kind", ["deep", "paper", "pause"])
def test_the_supervised_loss_by_hand(data, kind: str) -> None:
    training, _, config, features = data
    settings = config.policy.model_copy(
        update={"reasoner": config.policy.reasoner.model_copy(update={"kind": kind})}
    )
    torch.manual_seed(0)
    policy = Policy(settings, feature_sizes(features.serving)).eval()
    batch = to_batch(training[:5])
    slates = batch.shown[:, torch.randperm(10, generator=torch.Generator().manual_seed(1))]
    slates[2, 7:] = NO_ITEM
    found = supervised_loss(policy, batch.inputs, slate_teacher(slates), torch.Generator().manual_seed(0))

    memory, generator = policy.encode(batch.inputs), torch.Generator().manual_seed(0)
    state, temperature = policy.begin(memory, batch.mask), torch.full((5, 1), 1.5)
    losses = []
    for position in range(10):
        thoughts = [state]
        for _ in range(2):
            logits = policy.decoder.logits(thoughts[-1].readout, memory)
            thoughts.append(policy.reason(thoughts[-1], logits, memory, temperature))
        for row, item in enumerate(slates[:, position].tolist()):
            for thought in thoughts if item != NO_ITEM else ():
                scores = policy.decoder.logits(thought.readout, memory)[row, state.selectable[row]]
                place = int(state.selectable[row, :item].sum())
                losses.append(-torch.log_softmax(scores, 0)[place])
        if kind == "paper":
            tokens = torch.randint(0, 3, (5,), generator=generator)
            for token in (1, 2):
                state = thoughts[token].where(tokens == token, state)
        state = policy.commit(state, slates[:, position].clamp(min=0), memory)
    torch.testing.assert_close(found, torch.stack(losses).sum() / 3 / (slates != NO_ITEM).sum())


def test_beam_search_finds_the_best_slate_when_wide_enough(data) -> None:
    training, _, _, features = data
    for reward in ("clicks", "dcg"):
        torch.manual_seed(0)
        config = EvaluatorConfig(width=16, reward=reward)
        evaluator = Evaluator(config, feature_sizes(features.serving)).eval()
        batch = to_batch(training[:4])
        mask = torch.arange(20) < torch.tensor([[5], [5], [2], [5]])
        with torch.no_grad():
            candidates = evaluator.encode(batch.inputs)
            found = best_slates(evaluator, candidates, mask, 3, 60)
            assert found[2, 2] == NO_ITEM
            for row in (0, 1, 3):
                orders = torch.tensor(list(itertools.permutations(range(5), 3)))
                values = evaluator.reward(candidates[[row]].expand(60, -1, -1), orders)
                assert found[row].tolist() == orders[values.argmax()].tolist()
            narrow = best_slates(evaluator, candidates, mask, 3, 1)
            assert (evaluator.reward(candidates, narrow) <= evaluator.reward(candidates, found) + 1e-5).all()


def test_the_first_grpo_update_starts_from_ratio_one(data) -> None:
    training, _, config, features = data
    policy, reference = fresh_policy(config, features), fresh_policy(config, features)
    torch.manual_seed(1)
    evaluator = Evaluator(EvaluatorConfig(width=16), feature_sizes(features.serving)).eval()
    batch, settings = to_batch(training[:16]), ReinforcementConfig(group=4)
    generator = torch.Generator().manual_seed(0)
    experience = collect(policy, reference, evaluator, batch, 4, 0.5, generator)
    loss, metrics = grpo_loss(policy, batch, experience, settings)
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["clipped"] == 0.0
    assert loss.item() == pytest.approx(0.0, abs=1e-5)  # advantages of a group add up to nothing
    assert experience.rewards.shape == (16, 4)


def test_grpo_raises_the_reward(data) -> None:
    training, _, config, features = data
    policy = fresh_policy(config, features)
    reference = copy.deepcopy(policy)
    torch.manual_seed(1)
    evaluator = Evaluator(EvaluatorConfig(width=16), feature_sizes(features.serving)).eval()
    settings = ReinforcementConfig(group=8, kl=0.0, learning_rate=3e-3)
    optimizer, generator = torch.optim.Adam(policy.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
    batch, rewards = to_batch(training[:32]), []
    for _ in range(30):
        experience = collect(policy, reference, evaluator, batch, 8, 0.5, generator)
        loss, _ = grpo_loss(policy, batch, experience, settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(experience.rewards.mean().item())
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.01


def test_the_threshold_is_the_quantile_of_what_is_met(data) -> None:
    _, held_out, config, features = data
    policy = fresh_policy(config, features)
    for quantile in (0.3, 0.8):
        gate = calibrate(policy, held_out, quantile)
        assert gate.trigger_rate == pytest.approx(1 - quantile, abs=0.05)
        assert gate.tokens_per_list == pytest.approx(
            float(
                np.mean([r.tokens.sum(1).float().mean() for r in decode(policy, held_out, gate.threshold)])
            ),
            abs=1e-4,
        )
    assert all(not rollout.tokens.any() for rollout in decode(policy, held_out, NEVER))


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
    assert list(result["held_out"]) == [
        *("warm start", "imitation", "expert iteration 1", "expert iteration 2", "grpo"),
    ]
    assert result["held_out"][result["kept"]] == max(result["held_out"].values())
    assert 0 < load_gate(finished).trigger_rate < 1
    rows = (finished / "metrics.csv").read_text().splitlines()
    assert rows[0] == "phase,epoch,metric,value"
    assert {row.split(",")[0] for row in rows[1:]} == {
        *("evaluator", "evaluator_2", "warm_start", "imitation", "grpo"),
        *("expert_iteration_1", "expert_iteration_2"),
    }
    assert list((finished / "tensorboard").iterdir())


def test_the_same_seed_gives_the_same_weights(finished: Path, tmp_path: Path) -> None:
    train.train(small_config(), tmp_path / "again")
    assert same(weights(finished), weights(tmp_path / "again"))
    train.train(small_config(seed=1), tmp_path / "other")
    assert not same(weights(finished), weights(tmp_path / "other"))


@pytest.mark.parametrize("epochs_before_the_kill", [6, 10, 12, 14])
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


@pytest.mark.parametrize("search", [2, 3])
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
    first, second = (dict(member.named_parameters()) for member in evaluator.members)
    assert not same(first, second)
    batch = to_batch(training[:4])
    assert evaluator.reward(evaluator.encode(batch.inputs), batch.shown).shape == (4,)


def test_a_run_is_not_overwritten_by_another_configuration(finished: Path) -> None:
    with pytest.raises(ValueError, match="another configuration"):
        train.train(small_config(seed=7), finished)


def test_a_configuration_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text((CONFIGS / "ranklens.toml").read_text() + "\n[policy]\nwdith = 3\n")
    with pytest.raises(ValueError, match="wdith"):
        read_config(path)


def test_an_event_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = small_config(dataset="event_log", event_log=tmp_path / "gone.jsonl")
    with pytest.raises(DataUnavailableError, match=r"gone\.jsonl"):
        train.train(config, tmp_path / "run")
