"""Trains the policy: supervised warm start, imitation, expert iteration, GRPO on the evaluator.

Every phase keeps the weights that score best on held-out lists.
"""

import copy
from pathlib import Path

import numpy as np
from torch import nn

from model.evaluator import ClickModel
from model.policy import Policy
from model.training.beam import search_teachers
from model.training.calibration import calibrate
from model.training.config import PhaseConfig, RunConfig
from model.training.decoding import decode
from model.training.examples import Example
from model.training.expert_iteration import improved_lists
from model.training.grpo import collect, grpo_loss
from model.training.phase import Phase, RunLog
from model.training.rollout import threshold_gate
from model.training.selection import Score
from model.training.supervised import label_teacher, slate_teacher, supervised_loss


def fit_policy(
    config: RunConfig,
    run: Path,
    log: RunLog,
    policy: Policy,
    evaluator: ClickModel | None,
    train: list[Example],
    held_out: list[Example],
    score: Score,
    taught: list[Example] | None = None,
    warm: bool = False,
) -> dict[str, float]:
    """Every configured phase in order; the policy ends with the best weights of them all. One that starts
    from an initial ranker's order, or from an earlier run's weights, keeps these until an epoch beats them.

    Args:
        evaluator: None if no phase learns from one.
        taught: what `search_teachers` gives, where it is already known.
        warm: the policy has an earlier run's weights.

    Returns:
        The best held-out score after each phase, before them that of what it starts from, if it is any good.
    """
    scores: dict[str, float] = {}
    if warm or config.policy.base_score:
        name = "earlier weights" if warm else "initial ranker"
        scores[name], _ = _validate(policy, held_out, score)
        log.say(f"[bold]{name}[/] held-out score {scores[name]:.4f}")
    if config.supervised.epochs:
        best = max(scores.values(), default=None)
        scores["warm start"] = warm_start(config, run, log, policy, train, held_out, score, best)
    if evaluator is None:
        assert not config.learns_from_evaluator
        return scores
    if config.imitation.epochs:
        taught, best = taught or search_teachers(config, evaluator, train), max(scores.values(), default=None)
        scores["imitation"] = imitate(config, run, log, policy, taught, held_out, score, best)
    if config.expert_iteration.rounds:
        best = max(scores.values(), default=None)
        scores |= iterate(config, run, log, policy, evaluator, train, held_out, score, best)
    if config.reinforcement.epochs:
        best = max(scores.values(), default=None)
        scores["grpo"] = reinforce(config, run, log, policy, evaluator, train, held_out, score, best)
    return scores


def warm_start(
    config: RunConfig,
    run: Path,
    log: RunLog,
    policy: Policy,
    train: list[Example],
    held_out: list[Example],
    score: Score,
    score_before: float | None = None,
) -> float:
    """Supervised training on logged labels, reasoning on from the start. The policy keeps the weights it has
    unless an epoch beats their score, if that is given. Returns the best held-out score."""
    settings = config.supervised
    phase = Phase("warm_start", run, log, policy, train, settings, config.seed, config.weight_averaging)

    def train_epoch() -> dict[str, float]:
        losses = []
        for batch in phase.batches():
            teacher = label_teacher(batch.labels, settings.teacher_share, phase.generator)
            loss, weight = supervised_loss(policy, batch.inputs, teacher, phase.generator)
            losses.append(phase.update(loss, weight))
        return {"loss": float(np.mean(losses))}

    return phase.run(train_epoch, lambda module: _validate(module, held_out, score), score_before)


def imitate(
    config: RunConfig,
    run: Path,
    log: RunLog,
    policy: Policy,
    taught: list[Example],
    held_out: list[Example],
    score: Score,
    score_before: float | None,
    iteration: int = 0,
) -> float:
    """Imitation of the slates in `shown` of the taught lists, as `search_teachers` gives them, or, in a round
    of expert iteration, `improved_lists`. The policy keeps the weights it has unless an epoch beats their
    score. Returns the best held-out score."""
    name = f"expert_iteration_{iteration}" if iteration else "imitation"
    settings: PhaseConfig = config.expert_iteration if iteration else config.imitation
    phase = Phase(name, run, log, policy, taught, settings, config.seed, config.weight_averaging)

    def train_epoch() -> dict[str, float]:
        losses = []
        for batch in phase.batches():
            teacher = slate_teacher(batch.shown[:, : config.policy.slate_length], batch.targets)
            loss, weight = supervised_loss(policy, batch.inputs, teacher, phase.generator)
            losses.append(phase.update(loss, weight))
        return {"loss": float(np.mean(losses))}

    return phase.run(train_epoch, lambda module: _validate(module, held_out, score), score_before)


def iterate(
    config: RunConfig,
    run: Path,
    log: RunLog,
    policy: Policy,
    evaluator: ClickModel,
    train: list[Example],
    held_out: list[Example],
    score: Score,
    score_before: float | None,
) -> dict[str, float]:
    """Rounds of expert iteration, each from the best weights so far. Returns the best held-out score after
    each.

    What a round looks ahead to follows from the weights it starts from alone, so a killed round that is
    started again learns the same.
    """
    scores: dict[str, float] = {}
    for number in range(1, config.expert_iteration.rounds + 1):
        threshold = calibrate(policy, held_out, config.policy.reasoner.gate_quantile).threshold
        taught = improved_lists(policy, evaluator, train, config.expert_iteration, threshold)
        score_before = imitate(config, run, log, policy, taught, held_out, score, score_before, number)
        scores[f"expert iteration {number}"] = score_before
    return scores


def reinforce(
    config: RunConfig,
    run: Path,
    log: RunLog,
    policy: Policy,
    evaluator: ClickModel,
    train: list[Example],
    held_out: list[Example],
    score: Score,
    score_before: float | None,
) -> float:
    """GRPO from the warm start. The policy keeps the warm start's weights unless an epoch beats its score.

    Returns the best held-out score. Dropout stays off, so that a replay differs from its rollout by the
    update alone.
    """
    settings = config.reinforcement
    reference = copy.deepcopy(policy).eval()
    phase = Phase(
        "grpo", run, log, policy, train, settings, config.seed, config.weight_averaging, settings.passes
    )

    def train_epoch() -> dict[str, float]:
        policy.eval()
        threshold = calibrate(policy, held_out, config.policy.reasoner.gate_quantile).threshold
        rewards, divergences, tokens = [], [], []
        for batch in phase.batches():
            experience = collect(
                policy, reference, evaluator, batch, settings.group, threshold, phase.generator
            )
            for _ in range(settings.passes):
                loss, metrics = grpo_loss(policy, batch, experience, settings)
                phase.update(loss, experience.counted.sum())
            spent, lists = experience.slates.tokens.sum(1).float(), len(batch.labels)
            rewards.append(phase.mean(experience.rewards.mean(), lists))
            divergences.append(phase.mean(metrics["kl"], experience.counted.sum()))
            tokens.append(phase.mean(spent.mean(), lists))
        return {
            "reward": float(np.mean(rewards)),
            "kl": float(np.mean(divergences)),
            "tokens": float(np.mean(tokens)),
        }

    return phase.run(train_epoch, lambda module: _validate(module, held_out, score), score_before)


def _validate(policy: nn.Module, held_out: list[Example], score: Score) -> tuple[float, dict[str, float]]:
    """Score the greedy slates at a freshly calibrated threshold."""
    assert isinstance(policy, Policy)
    gate = calibrate(policy, held_out, policy.config.reasoner.gate_quantile)
    rollouts = decode(policy, held_out, threshold_gate(gate.threshold))
    value, metrics = score([slate for rollout in rollouts for slate in rollout.slates()])
    entropy = float(np.mean(gate.entropy_by_position["before"]))
    return value, {**metrics, "entropy": entropy, "trigger_rate": gate.trigger_rate}
