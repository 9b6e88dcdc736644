"""The supervised loss: a pointer taught with reasoning already on (Seq2Slate-like, Bello et al. 2018,
arXiv 1810.02019), by logged labels or by whole slates.

The loss is taken after every number of reasoning tokens 0..S, equally weighted, so that one model serves
every reasoning budget. Legend: B lists, N candidates, K slate length, S reasoning budget.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model.encoder import Memory
from model.policy import Policy, StepState
from model.reasoning import log_probabilities

Teacher = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(position, selectable [B, N] bool, log_p [B, N] before reasoning) -> (target [B, N], item [B] int64)`:
the distribution to learn, zeros where there is nothing to learn, and the item the prefix goes on with."""


def label_teacher(labels: Tensor, teacher_share: float, generator: torch.Generator) -> Teacher:
    """Uniform over the relevant candidates not yet chosen; `labels` is `[B, N]`.

    Departs from Seq2Slate in going on, for a share of the positions, with an item the policy draws
    instead of a relevant one.
    """

    def teach(position: int, selectable: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
        relevant = (labels > 0) & selectable
        target = relevant / relevant.sum(1, keepdim=True).clamp(min=1)
        drawn = torch.multinomial(log_p.detach().exp() + 1e-9, 1, generator=generator).squeeze(1)
        shown = torch.multinomial(target + 1e-9 * selectable + 1e-12, 1, generator=generator).squeeze(1)
        draw = torch.rand(len(labels), generator=generator, device=labels.device)
        taught = relevant.any(1) & (draw < teacher_share)
        return target, torch.where(taught, shown, drawn)

    return teach


def slate_teacher(slates: Tensor, targets: Tensor | None = None) -> Teacher:
    """The next item of a given slate, `[B, K] int64`; nothing where it is NO_ITEM or the slate has ended.

    With `targets`, `[B, K, N]`, these are learned in the place of the item, which the prefix goes on with.
    """

    def teach(position: int, selectable: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
        if position >= slates.shape[1]:
            return torch.zeros_like(log_p), torch.zeros_like(slates[:, 0])
        item = slates[:, position].clamp(min=0)
        one = torch.zeros_like(log_p).scatter(1, item.unsqueeze(1), 1.0)
        target = one if targets is None else targets[:, position]
        return target * (slates[:, position] >= 0).unsqueeze(1), item

    return teach


def supervised_loss(
    policy: Policy, inputs: dict[str, Tensor], teacher: Teacher, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats over positions and numbers of reasoning tokens; and how many positions had
    something to learn.

    A reasoner that branches leaves the decoder's state alone; after one that carries its token on, the list
    goes on from a random number of tokens. Memory grows with the candidates, not with positions times them.
    """
    memory = policy.encode(inputs)
    state = policy.begin(memory, inputs["candidate_mask"])
    loss = weight = memory.user.new_zeros(())
    for position in range(policy.config.slate_length):
        log_p = log_probabilities(policy.decoder.logits(state.readout, memory), state.selectable)
        target, item = teacher(position, state.selectable, log_p)
        part, thoughts = _loss_over_tokens(policy, state, memory, target)
        loss, weight = loss + part, weight + target.sum()
        if not policy.reasoner.branches:
            tokens = torch.randint(0, len(thoughts), (len(item),), generator=generator, device=item.device)
            for token, thought in enumerate(thoughts[1:], start=1):
                state = thought.where(tokens == token, state)
        state = policy.commit(state, item, memory)
    return loss / weight.clamp(min=1), weight


def _loss_over_tokens(
    policy: Policy, state: StepState, memory: Memory, target: Tensor
) -> tuple[Tensor, list[StepState]]:
    """Summed cross-entropy, mean over the numbers of tokens taught, and the states after each number."""
    budget, every = policy.config.reasoner.budget, policy.config.reasoner.taught == "every"
    temperature = target.new_full((len(target), 1), policy.config.reasoner.temperature)
    loss, thoughts = target.new_zeros(()), [state]
    for token in range(budget + 1):
        logits = policy.decoder.logits(thoughts[-1].readout, memory)
        if every or token == budget:
            log_p = log_probabilities(logits, state.selectable)
            loss = loss - (target * log_p).sum() / (budget + 1 if every else 1)
        if token < budget:
            thoughts.append(policy.reason(thoughts[-1], logits, memory, temperature))
    return loss, thoughts
