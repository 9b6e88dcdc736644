"""Lists chosen with the evaluator's help while serving: other ways to spend computing time.

Labels are not used. Legend: B lists, K positions, N candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bundle.contract import NO_ITEM
from model.policy import Policy
from model.training.beam import best_slates
from model.training.examples import batches
from model.training.grpo import written_slate
from model.training.lookahead import look_ahead
from model.training.rollout import (
    NEVER,
    GateDecision,
    Rollout,
    greedy,
    roll_out,
    sample,
    threshold_gate,
)

if TYPE_CHECKING:
    from evidence.cell import Cell

BATCH = 256


@torch.no_grad()
def best_of(policy: Policy, cell: Cell, lists: int) -> list[Rollout]:
    """One greedy and `lists - 1` sampled slates; the evaluator keeps the best."""
    generator = torch.Generator().manual_seed(cell.config.seed)
    out = []
    for batch in batches(cell.test, BATCH):
        memory, candidates = policy.encode(batch.inputs), cell.evaluator.encode(batch.inputs)
        choices = [greedy, *[sample(generator)] * (lists - 1)]
        tried = [roll_out(policy, memory, batch.mask, threshold_gate(NEVER), choice) for choice in choices]
        out.append(_best(tried, cell, candidates))
    return out


def looked_ahead(
    policy: Policy, cell: Cell, decide: GateDecision, threshold: float, alternatives: int
) -> list[Rollout]:
    """Lists improved where the uncertainty is above `threshold`."""
    return [
        look_ahead(policy, cell.evaluator, batch.inputs, decide, alternatives, threshold).slates
        for batch in batches(cell.test, BATCH)
    ]


@torch.no_grad()
def beam_search(cell: Cell) -> list[list[int]]:
    """What the policy is taught to imitate, on the test lists."""
    length, beams = cell.config.policy.slate_length, cell.config.imitation.beams
    return [
        [item for item in slate if item != NO_ITEM]
        for batch in batches(cell.test, BATCH)
        for slate in best_slates(
            cell.evaluator, cell.evaluator.encode(batch.inputs), batch.mask, length, beams
        ).tolist()
    ]


def _best(tried: list[Rollout], cell: Cell, candidates: Tensor) -> Rollout:
    """Row by row the slate with the highest evaluator score, the first of equals."""
    rewards = torch.stack([cell.evaluator.reward(candidates, written_slate(slates)) for slates in tried])
    best = rewards.argmax(0)
    rows = torch.arange(len(best))
    return Rollout(*(torch.stack(column)[best, rows] for column in zip(*tried, strict=True)))
