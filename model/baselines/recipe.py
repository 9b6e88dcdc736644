"""How every neural baseline is fitted: one recipe for all, no tuning of each.

AdamW on a one-cycle schedule, moving average of weights and the epoch chosen by the held-out score, as the
policies are trained; more epochs than any of those, so that nobody is behind for want of updates.
Legend: B lists, N candidates, K slate length.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.contract import MASKED_LOGIT
from model.baselines.task import Task
from model.config import EncoderConfig
from model.encoder import Encoder, FeatureSizes
from model.training.config import PhaseConfig
from model.training.examples import Batch, Example, batches
from model.training.phase import Phase, RunLog

WIDTH = 64
RECIPE = PhaseConfig(epochs=30, patience=10)
AVERAGING = 0.99

Orders = list[NDArray[np.int64]]
Loss = Callable[[Batch, torch.Generator], Tensor]
Rank = Callable[[Batch], Tensor]
"""Greedy slates, `[B, K] int64`; means nothing past the end of a list with fewer than K candidates."""


class Scorer(nn.Module):
    """Scores all candidates of a list at once; `encoder` is the light one that the policies have."""

    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__()
        self.encoder = Encoder(sizes, WIDTH, (1, 1), EncoderConfig())

    def forward(self, batch: Batch) -> Tensor:
        """`[B, N]`, the higher the better; unmasked."""
        raise NotImplementedError


def rank_by_score(task: Task, build: Callable[[FeatureSizes], Scorer]) -> Orders:
    """Fit a scorer by the list-wise loss; sort by it."""
    torch.manual_seed(task.seed)
    scorer = build(task.sizes)

    def loss(batch: Batch, generator: torch.Generator) -> Tensor:
        return listwise_loss(scorer(batch), batch)

    fit(task, "scorer", scorer, loss, lambda module: lambda batch: sort(module(batch), batch, task))
    return ranked(lambda batch: sort(scorer(batch), batch, task), task.test)


def fit(
    task: Task,
    name: str,
    module: nn.Module,
    loss: Loss,
    rank: Callable[[nn.Module], Rank],
) -> None:
    """Train `module` on the task's lists; it ends with the weights that rank held-out lists best."""
    log = RunLog(task.run)
    phase = Phase(name, task.run, log, module, task.train, RECIPE, task.seed, AVERAGING)

    def train_epoch() -> dict[str, float]:
        losses = []
        for batch in phase.batches():
            value = loss(batch, phase.generator)
            phase.update(value)
            losses.append(value.item())
        return {"loss": float(np.mean(losses))}

    phase.run(train_epoch, lambda averaged: task.score(ranked(rank(averaged), task.held_out)))
    log.close()


@torch.no_grad()
def ranked(rank: Rank, rows: Sequence[Example]) -> Orders:
    """Slates of all lists, in order, cut where a list has no more candidates."""
    orders: Orders = []
    for batch in batches(rows, 256):
        lengths = batch.mask.sum(1).tolist()
        orders += [slate[:n].numpy() for slate, n in zip(rank(batch).cpu(), lengths, strict=True)]
    return orders


def sort(scores: Tensor, batch: Batch, task: Task) -> Tensor:
    """Best first. `[B, N]` -> `[B, K]`."""
    order = scores.masked_fill(~batch.mask, MASKED_LOGIT).argsort(dim=1, descending=True, stable=True)
    return order[:, : task.slate_length]


def shown(batch: Batch) -> Tensor:
    """`[B, N] bool, True = was shown`: only those have a label to learn from."""
    there = batch.mask.new_zeros(batch.mask.shape[0], batch.mask.shape[1] + 1)
    places = batch.shown.masked_fill(batch.shown < 0, batch.mask.shape[1])
    return there.scatter(1, places, True)[:, :-1]


def listwise_loss(scores: Tensor, batch: Batch) -> Tensor:
    """Softmax cross-entropy over what was shown, the target spread over the clicked (Ai et al. 2018, the
    attention rank loss). Lists without a click say nothing."""
    log_p = scores.masked_fill(~shown(batch), MASKED_LOGIT).log_softmax(1)
    clicks = batch.labels.sum(1, keepdim=True)
    return -(batch.labels / clicks.clamp(min=1) * log_p).sum() / (clicks > 0).sum().clamp(min=1)
