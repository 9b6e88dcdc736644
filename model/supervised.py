"""The warm start's loss: a supervised pointer with reasoning already on (Seq2Slate-like, Bello et al.
2018, arXiv 1810.02019).

At each position the target is uniform over the relevant candidates not yet chosen; positions with none
left say nothing. The loss is taken after every number of reasoning tokens 0..S, equally weighted, so
that one model serves every reasoning budget. Legend: B lists, N candidates, S reasoning budget.
"""

import torch
from torch import Tensor

from model.examples import Batch
from model.policy import Policy
from model.reasoning import log_probabilities


def supervised_loss(policy: Policy, batch: Batch, teacher_share: float, generator: torch.Generator) -> Tensor:
    """Mean cross-entropy in nats over positions and reasoning tokens.

    Departs from Seq2Slate in drawing a share of the prefix from the policy itself instead of from the
    labels. A reasoner that carries its token on (`paper`) goes on from a random number of tokens.
    """
    memory = policy.encode(batch.inputs)
    state = policy.begin(memory, batch.mask)
    rows, budget = len(batch.labels), policy.config.reasoner.budget
    temperature = torch.full((rows, 1), policy.config.reasoner.temperature)
    total, weight = torch.zeros(()), torch.zeros(())
    for _ in range(policy.config.slate_length):
        relevant = (batch.labels > 0) & state.selectable
        target = relevant / relevant.sum(1, keepdim=True).clamp(min=1)
        kept_tokens = torch.randint(0, budget + 1, (rows,), generator=generator)
        thinking = kept = state
        for token in range(budget + 1):
            logits = policy.decoder.logits(thinking.readout, memory)
            log_p = log_probabilities(logits, state.selectable)
            total = total - (target * log_p).sum() / (budget + 1)
            if token < budget:
                thinking = policy.reason(thinking, logits, memory, temperature)
                kept = thinking.where(kept_tokens > token, kept)
        weight = weight + relevant.any(1).sum()
        chosen = _next_item(target, log_p.detach(), state.selectable, teacher_share, generator)
        state = policy.commit(kept, chosen, memory)
    return total / weight.clamp(min=1)


def _next_item(
    target: Tensor, log_p: Tensor, selectable: Tensor, teacher_share: float, generator: torch.Generator
) -> Tensor:
    """The prefix's next item: a relevant one or one the policy draws. `[B] int64`."""
    drawn = torch.multinomial(log_p.exp() + 1e-9, 1, generator=generator).squeeze(1)
    relevant = torch.multinomial(target + 1e-9 * selectable + 1e-12, 1, generator=generator).squeeze(1)
    teaches = (torch.rand(len(target), generator=generator) < teacher_share) & (target.sum(1) > 0)
    return torch.where(teaches, relevant, drawn)
