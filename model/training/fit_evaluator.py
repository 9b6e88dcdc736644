"""Fits the evaluator to the log.

Legend: B lists, L positions.
"""

from collections.abc import Iterable
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bundle.contract import NO_ITEM
from model.encoder import FeatureSizes
from model.evaluator import ClickModel, Evaluator, EvaluatorEnsemble
from model.training.config import RunConfig
from model.training.devices import device
from model.training.evaluator_report import EvaluatorReport, report
from model.training.examples import Example, batch_indices, to_batch
from model.training.phase import Phase, RunLog
from model.training.ranks import from_first, spread

SEEDS_APART = 1000
"""Between the seeds of an ensemble's members, so that runs of neighbouring seeds share none."""


def train_evaluator(
    config: RunConfig,
    run: Path,
    log: RunLog,
    sizes: FeatureSizes,
    train: list[Example],
    held_out: list[Example],
    start: ClickModel | None = None,
) -> tuple[ClickModel, list[EvaluatorReport]]:
    """Fit on the training lists, choose the epoch by log-loss on the held-out ones.

    Members of an ensemble start from other weights and see the lists in another order.

    Args:
        start: an earlier one with as many members, whose weights they start from instead.

    Returns:
        The evaluator and its report; after it those of the members, where there are several.
    """
    members = []
    networks: Iterable[Evaluator | None] = repeat(None, config.evaluator.members)
    if start is not None:
        networks = start.networks
    for number, weights in enumerate(networks):
        name = f"evaluator_{number + 1}" if number else "evaluator"
        seeded = config.model_copy(update={"seed": config.seed + number * SEEDS_APART})
        members.append(fit_one(seeded, name, run, log, sizes, train, held_out, start=weights))
    found: list[ClickModel] = [*members]
    if len(members) > 1:
        found.insert(0, EvaluatorEnsemble(members).eval())
    reports = from_first([report(evaluator, held_out, config.seed) for evaluator in found])
    for own in reports:
        log.say(f"evaluator on held-out lists: {own}")
    return found[0], reports


def fit_one(
    config: RunConfig,
    name: str,
    run: Path,
    log: RunLog,
    sizes: FeatureSizes,
    train: list[Example],
    held_out: list[Example],
    blind: bool = False,
    start: Evaluator | None = None,
) -> Evaluator:
    """One evaluator, or its control that is `blind` to order and neighbours. With the weights of `start` it
    gets `warm_epochs`, and keeps them unless an epoch is better.

    Lists are cut at a random length, so that slates as short as the policy's are not new to it."""
    torch.manual_seed(config.seed)
    evaluator, settings, before = (
        Evaluator(config.evaluator, sizes, blind).to(device()),
        config.evaluator,
        None,
    )
    if start is not None:
        evaluator.load_state_dict(start.state_dict())
        settings = settings.model_copy(update={"epochs": settings.warm_epochs})
        if not settings.epochs:
            return evaluator.eval()
        before = -_held_out_log_loss(evaluator.eval(), held_out)
    phase = Phase(name, run, log, evaluator, train, settings, config.seed, config.weight_averaging)

    def train_epoch() -> dict[str, float]:
        losses = []
        for batch in phase.batches():
            slate = _cut(batch.shown, config.policy.slate_length, phase.generator)
            loss = evaluator.loss(evaluator.encode(batch.inputs), slate, batch.clicks(slate))
            losses.append(phase.update(loss, (slate != NO_ITEM).sum()))
        return {"loss": float(np.mean(losses))}

    def validate(module: nn.Module) -> tuple[float, dict[str, float]]:
        assert isinstance(module, Evaluator)
        loss = _held_out_log_loss(module, held_out)
        return -loss, {"held_out_loss": loss}

    phase.run(train_epoch, validate, before)
    return evaluator


@torch.no_grad()
def _held_out_log_loss(evaluator: Evaluator, held_out: list[Example]) -> float:
    def summed(rows: list[int]) -> tuple[float, int]:
        batch = to_batch([held_out[row] for row in rows])
        positions = int((batch.shown != NO_ITEM).sum())
        loss = evaluator.loss(evaluator.encode(batch.inputs), batch.shown, batch.clicks(batch.shown))
        return loss.item() * positions, positions

    found = spread(batch_indices(held_out, 256), summed, "held-out loss")
    return sum(total for total, _ in found) / sum(count for _, count in found)


def _cut(shown: Tensor, shortest: int, generator: torch.Generator) -> Tensor:
    """Each list cut at a random length of at least `shortest`; lists that are shorter stay whole."""
    longest = shown.shape[1]
    if longest <= shortest:
        return shown
    lengths = torch.randint(shortest, longest + 1, (len(shown), 1), generator=generator, device=shown.device)
    return shown.masked_fill(torch.arange(longest, device=shown.device) >= lengths, NO_ITEM)
