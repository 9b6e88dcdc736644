"""Looking ahead: a list improved position by position with the evaluator's help.

At a position the policy's most probable candidates are tried in turn: the policy completes the list greedily
after each, the evaluator says what the whole list is worth, the best stays, and the next position goes on
from the list as improved. In training it makes the targets of expert iteration; at decoding time it is what
more computing buys.

Legend: B requests, N candidates, K slate length, A alternatives, R rows that are looked at.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from model.encoder import Memory
from model.evaluator import ClickModel
from model.policy import Policy, StepState
from model.training.grpo import written_slate
from model.training.rollout import GateDecision, Rollout, greedy, reason, roll_out

EVERYWHERE = -1.0
"""A threshold that every uncertainty is above."""


class LookedAhead(NamedTuple):
    """Improved slates, and what was tried at each position.

    The first alternative is the policy's own choice. Where nothing else was tried, or no candidate was
    left, `values` is -inf.
    """

    slates: Rollout
    alternatives: Tensor  # [B, K, A] int64, candidate indices
    values: Tensor  # [B, K, A] float32, reward of the list completed after each


@torch.no_grad()
def look_ahead(
    policy: Policy,
    evaluator: ClickModel,
    inputs: dict[str, Tensor],
    decide: GateDecision,
    alternatives: int,
    threshold: float = EVERYWHERE,
) -> LookedAhead:
    """Try `alternatives` candidates, the policy's own choice among them, where the uncertainty is above
    `threshold`. `decide` decides reasoning by what it is shown of a row, not by which row it is.

    Costs the decoding of about `(alternatives - 1) K / 2` more lists, where every position is looked at.
    """
    mask, length = inputs["candidate_mask"], policy.config.slate_length
    memory, candidates = policy.encode(inputs), evaluator.encode(inputs)
    best = roll_out(policy, memory, mask, decide, greedy)
    value, state = evaluator.reward(candidates, written_slate(best)), policy.begin(memory, mask)
    tried, values = [], []
    for position in range(length):
        decision = reason(policy, memory, state, position, decide)
        ranked = _ranked(decision.log_policy, best.slate[:, position], min(alternatives, mask.shape[1]))
        worth = torch.full(ranked.shape, -torch.inf, device=mask.device)
        worth[:, 0] = value.where(best.written[:, position], -torch.inf)
        free = decision.state.selectable.gather(1, ranked) & (decision.uncertainty > threshold).unsqueeze(1)
        row, rank = free[:, 1:].nonzero(as_tuple=True)  # [R] each
        if len(row):
            item = ranked[row, rank + 1]
            after = policy.commit(_rows(decision.state, row), item, _of(memory, row))
            found = _completed(policy, _of(memory, row), mask[row], decide, best, row, position, item, after)
            worth[row, rank + 1] = evaluator.reward(candidates[row], written_slate(found))
            better = worth.argmax(1)
            place = torch.full(ranked.shape, -1, device=mask.device)
            place[row, rank + 1] = torch.arange(len(row), device=mask.device)
            changed = better.nonzero().squeeze(1)
            source = place[changed, better[changed]]
            for column, improved in zip(best, found, strict=True):
                column[changed, position:] = improved[source, position:]
            value = value.where(better == 0, worth.amax(1))
        tried.append(ranked)
        values.append(worth)
        state = policy.commit(decision.state, best.slate[:, position], memory)
    return LookedAhead(best, torch.stack(tried, dim=1), torch.stack(values, dim=1))


def _ranked(log_policy: Tensor, own: Tensor, count: int) -> Tensor:
    """The policy's own choice, then the most probable others. `[B, N]`, `[B]` -> `[B, count]`."""
    others = log_policy.scatter(1, own.unsqueeze(1), -torch.inf).topk(count - 1).indices
    return torch.cat([own.unsqueeze(1), others], dim=1)


def _completed(
    policy: Policy,
    memory: Memory,
    mask: Tensor,
    decide: GateDecision,
    best: Rollout,
    row: Tensor,
    position: int,
    item: Tensor,
    after: StepState,
) -> Rollout:
    """The best lists of the rows up to `position`, `item` `[R]` there, the policy's choices after it."""
    slates = Rollout(*(column[row] for column in best))
    log_p = slates.log_policy[:, position].gather(1, item.unsqueeze(1)).squeeze(1)
    slates.slate[:, position], slates.log_probability[:, position] = item, log_p
    if position + 1 < policy.config.slate_length:
        rest = roll_out(policy, memory, mask, decide, greedy, start=after)
        for column, later in zip(slates, rest, strict=True):
            column[:, position + 1 :] = later
    return slates


def _rows(state: StepState, row: Tensor) -> StepState:
    return StepState.unflatten(tuple(tensor[row] for tensor in state.flatten()))


def _of(memory: Memory, row: Tensor) -> Memory:
    return Memory(*(tensor[row] for tensor in memory))
