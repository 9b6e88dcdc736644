"""Lists chosen with the evaluator's help while serving: other ways to spend computing time.

Labels are not used. Legend: B lists, K positions, N candidates.
"""

import torch
from torch import Tensor

from bundle.contract import NO_ITEM
from evidence.cell import Cell
from model.policy import Policy
from model.training.beam import best_slates
from model.training.examples import batches
from model.training.grpo import written_slate
from model.training.rollout import (
    NEVER,
    Choice,
    GateDecision,
    Rollout,
    greedy,
    roll_out,
    sample,
    threshold_gate,
)

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


@torch.no_grad()
def looked_ahead(
    policy: Policy, cell: Cell, decide: GateDecision, threshold: float, alternatives: int
) -> list[Rollout]:
    """Where the uncertainty is above `threshold`, the list is also completed greedily with each of the
    next `alternatives` candidates there; the evaluator keeps the best of them."""
    out = []
    for batch in batches(cell.test, BATCH):
        memory, candidates = policy.encode(batch.inputs), cell.evaluator.encode(batch.inputs)
        best = roll_out(policy, memory, batch.mask, decide, greedy)
        for position in range(policy.config.slate_length):
            unsure = best.uncertainty[:, position] > threshold
            log_p, ranked = best.log_policy[:, position].topk(1 + alternatives)
            tried = [best]
            for rank in range(1, 1 + alternatives):
                free = unsure & (log_p[:, rank].exp() > 0)
                item = ranked[:, rank].where(free, best.slate[:, position])
                choice = _instead(best.slate, position, item)
                tried.append(roll_out(policy, memory, batch.mask, decide, choice))
            best = _best(tried, cell, candidates)
        out.append(best)
    return out


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


def _instead(slate: Tensor, position: int, item: Tensor) -> Choice:
    """The slate `[B, K]` up to the position, the item `[B]` there, the most probable candidates after."""

    def choose(place: int, log_p: Tensor) -> Tensor:
        if place < position:
            return slate[:, place]
        return item if place == position else greedy(place, log_p)

    return choose


def _best(tried: list[Rollout], cell: Cell, candidates: Tensor) -> Rollout:
    """Row by row the slate with the highest evaluator score, the first of equals."""
    rewards = torch.stack([cell.evaluator.reward(candidates, written_slate(slates)) for slates in tried])
    best = rewards.argmax(0)
    rows = torch.arange(len(best))
    return Rollout(*(torch.stack(column)[best, rows] for column in zip(*tried, strict=True)))
