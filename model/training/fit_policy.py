"""Trains the policy: supervised warm start, imitation, expert iteration, GRPO, then the gate's threshold.

Legend: B requests, N candidates, K positions.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bundle.contract import NO_ITEM
from bundle.manifest import Gate
from bundle.reference import ENTROPY_NATS, LIST_SIZES, POSITIONS, SCORES, TRIGGERED, Distribution, Reference
from model.evaluator import ClickModel
from model.policy import Policy
from model.progress import progress
from model.training.beam import best_slates
from model.training.config import PhaseConfig, RunConfig
from model.training.examples import Example, batch_indices, batches
from model.training.expert_iteration import improved_lists
from model.training.grpo import collect, grpo_loss
from model.training.phase import Phase, RunLog
from model.training.rollout import Rollout, greedy, roll_out, threshold_gate
from model.training.supervised import label_teacher, slate_teacher, supervised_loss

Score = Callable[[list[np.ndarray]], tuple[float, dict[str, float]]]
"""Held-out slates, in the order of the held-out examples -> the score to maximise, and metrics."""

NEVER = float("inf")
"""A threshold no uncertainty is above."""

DECODED_CANDIDATES = 65_536
"""Most candidates of a batch that is decoded, so that full attention over long lists fits in memory."""


def fit_policy(
    config: RunConfig,
    run: Path,
    log: RunLog,
    policy: Policy,
    evaluator: ClickModel,
    train: list[Example],
    held_out: list[Example],
    score: Score,
    taught: list[Example] | None = None,
) -> dict[str, float]:
    """Every configured phase in order; the policy ends with the best weights of them all.

    Args:
        taught: what `search_teachers` gives, where it is already known.

    Returns:
        The best held-out score after each phase.
    """
    scores: dict[str, float] = {}
    if config.supervised.epochs:
        scores["warm start"] = warm_start(config, run, log, policy, train, held_out, score)
    if config.imitation.epochs:
        taught, best = taught or search_teachers(config, evaluator, train), max(scores.values(), default=None)
        scores["imitation"] = imitate(
            "imitation", config, config.imitation, run, log, policy, taught, held_out, score, best
        )
    if config.expert_iteration.rounds:
        scores |= iterate(
            config, run, log, policy, evaluator, train, held_out, score, max(scores.values(), default=None)
        )
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
) -> float:
    """Supervised training on logged labels, reasoning on from the start. Returns the best held-out score."""
    settings = config.supervised
    phase = Phase("warm_start", run, log, policy, train, settings, config.seed, config.weight_averaging)

    def train_epoch() -> dict[str, float]:
        losses = []
        for batch in phase.batches():
            teacher = label_teacher(batch.labels, settings.teacher_share, phase.generator)
            loss = supervised_loss(policy, batch.inputs, teacher, phase.generator)
            phase.update(loss)
            losses.append(loss.item())
        return {"loss": float(np.mean(losses))}

    return phase.run(train_epoch, lambda module: _validate(module, held_out, score))


def imitate(
    name: str,
    config: RunConfig,
    settings: PhaseConfig,
    run: Path,
    log: RunLog,
    policy: Policy,
    taught: list[Example],
    held_out: list[Example],
    score: Score,
    score_before: float | None,
) -> float:
    """Imitation of the slates in `shown` of the taught lists, as `search_teachers` or `improved_lists`
    give them. The policy keeps the weights it has unless an epoch beats their score. Returns the best
    held-out score."""
    length = config.policy.slate_length
    phase = Phase(name, run, log, policy, taught, settings, config.seed, config.weight_averaging)

    def train_epoch() -> dict[str, float]:
        losses = []
        for batch in phase.batches():
            teacher = slate_teacher(batch.shown[:, :length], batch.targets)
            loss = supervised_loss(policy, batch.inputs, teacher, phase.generator)
            phase.update(loss)
            losses.append(loss.item())
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
        name, settings = f"expert_iteration_{number}", config.expert_iteration
        score_before = imitate(
            name, config, settings, run, log, policy, taught, held_out, score, score_before
        )
        scores[f"expert iteration {number}"] = score_before
    return scores


def search_teachers(config: RunConfig, evaluator: ClickModel, train: list[Example]) -> list[Example]:
    """The lists, with what a beam search finds best under the evaluator in the place of what was shown."""
    evaluator.eval()
    slates: list[np.ndarray] = []
    settings = config.imitation
    steps = len(batch_indices(train, settings.batch, candidates=settings.batch_candidates))
    cut = batches(train, settings.batch, candidates=settings.batch_candidates)
    for batch in progress(cut, "beam search", steps):
        found = best_slates(
            evaluator, evaluator.encode(batch.inputs), batch.mask, config.policy.slate_length, settings.beams
        )
        slates += [slate[slate != NO_ITEM].numpy() for slate in found]
    return [example._replace(shown=slate) for example, slate in zip(train, slates, strict=True)]


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
                phase.update(loss)
            rewards.append(float(experience.rewards.mean()))
            divergences.append(metrics["kl"])
            tokens.append(float(experience.slates.tokens.sum(1).float().mean()))
        return {
            "reward": float(np.mean(rewards)),
            "kl": float(np.mean(divergences)),
            "tokens": float(np.mean(tokens)),
        }

    return phase.run(train_epoch, lambda module: _validate(module, held_out, score), score_before)


@torch.no_grad()
def calibrate(policy: Policy, held_out: list[Example], quantile: float) -> Gate:
    """Set the gate's threshold from held-out lists, in eval mode, after the last training phase.

    The threshold is a quantile of the uncertainties met while decoding greedily; since reasoning changes
    what is met later, it is taken once without reasoning and once more with it.
    """
    policy.eval()
    threshold = NEVER
    for _ in range(2):
        slates = decode(policy, held_out, threshold)
        met = torch.cat([rollout.uncertainty[rollout.written] for rollout in slates])
        threshold = float(met.quantile(quantile))
    slates = decode(policy, held_out, threshold)
    written = torch.cat([rollout.written for rollout in slates])
    tokens = torch.cat([rollout.tokens for rollout in slates])
    return Gate(
        kind=policy.config.reasoner.gate,
        threshold=threshold,
        quantile=quantile,
        trigger_rate=float((tokens > 0)[written].float().mean()),
        tokens_per_list=float((tokens * written).sum(1).float().mean()),
        entropy_by_position={
            "before": _by_position(torch.cat([rollout.entropy_before for rollout in slates]), written),
            "after": _by_position(torch.cat([rollout.entropy_after for rollout in slates]), written),
        },
        reference=_reference(policy, held_out, slates),
    )


@torch.no_grad()
def decode(policy: Policy, rows: list[Example], threshold: float) -> list[Rollout]:
    """Greedy slates of all examples, in batches, in order."""
    rollouts = []
    for batch in batches(rows, 256, candidates=DECODED_CANDIDATES):
        memory = policy.encode(batch.inputs)
        rollouts.append(roll_out(policy, memory, batch.mask, threshold_gate(threshold), greedy))
    return rollouts


def _validate(policy: nn.Module, held_out: list[Example], score: Score) -> tuple[float, dict[str, float]]:
    """Score the greedy slates at a freshly calibrated threshold."""
    assert isinstance(policy, Policy)
    gate = calibrate(policy, held_out, policy.config.reasoner.gate_quantile)
    slates = [
        slate[written].numpy()
        for rollout in decode(policy, held_out, gate.threshold)
        for slate, written in zip(rollout.slate, rollout.written, strict=True)
    ]
    value, metrics = score(slates)
    entropy = float(np.mean(gate.entropy_by_position["before"]))
    return value, {**metrics, "entropy": entropy, "trigger_rate": gate.trigger_rate}


def _reference(policy: Policy, held_out: list[Example], slates: list[Rollout]) -> Reference:
    """The distributions of what these slates met."""
    written = torch.cat([rollout.written for rollout in slates])
    entropy = torch.cat([rollout.entropy_before for rollout in slates])
    tokens = torch.cat([rollout.tokens for rollout in slates])
    chosen = []
    for rollout in slates:  # at temperature 1, as answers give it, from the selection temperature's
        log_p = torch.log_softmax(rollout.log_policy * policy.config.selection_temperature, dim=-1)
        chosen.append(log_p.gather(-1, rollout.slate.unsqueeze(-1)).squeeze(-1).exp())
    return Reference(
        entropy=tuple(
            Distribution.of(entropy[:, k][written[:, k]], ENTROPY_NATS)
            for k in range(min(written.shape[1], POSITIONS))
        ),
        tokens=Distribution.of(tokens[written], TRIGGERED),
        score=Distribution.of(torch.cat(chosen)[written], SCORES),
        list_size=Distribution.of([len(example.labels) for example in held_out], LIST_SIZES),
    )


def _by_position(entropy: Tensor, written: Tensor) -> list[float]:
    """Mean of `[B, K]` over the lists that reach each position. `[K]`."""
    means = (entropy * written).sum(0) / written.sum(0).clamp(min=1)
    return [round(value, 4) for value in means.tolist()]
