"""GRPO with recorded gates (Shao et al. 2024, arXiv 2402.03300).

Slates are sampled by the current policy with the gate deciding; the gate's decisions are recorded and
replayed whenever a likelihood is computed, so that old, new and reference policy are scored on one and
the same token sequence. Only item choices carry likelihood, at the selection temperature.
Legend: B requests, G slates of a request, K slate length, N candidates.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from bundle.contract import NO_ITEM
from model.encoder import Memory
from model.evaluator import ClickModel
from model.policy import Policy
from model.training.advantage import group_advantages
from model.training.config import ReinforcementConfig
from model.training.examples import Batch
from model.training.rollout import Rollout, replay_choice, replay_gate, roll_out, sample, threshold_gate


class Experience(NamedTuple):
    """Sampled slates with everything that does not change while the policy is updated on them."""

    slates: Rollout  # [B * G, ...], from the policy that sampled them
    reference: Tensor  # [B * G, K, N] float32, log-probabilities of the warm start
    advantages: Tensor  # [B * G] float32
    useful: Tensor  # [B * G] bool, False where all slates of the group earned the same
    rewards: Tensor  # [B, G] float32

    @property
    def counted(self) -> Tensor:
        """What is learned from: the written positions of useful groups. `[B * G, K] bool`."""
        return self.slates.written & self.useful.unsqueeze(1)


def written_slate(rollout: Rollout) -> Tensor:
    """`[B, K] int64`, NO_ITEM past the end of a list with fewer than K candidates."""
    return rollout.slate.masked_fill(~rollout.written, NO_ITEM)


@torch.no_grad()
def collect(
    policy: Policy,
    reference: Policy,
    evaluator: ClickModel,
    batch: Batch,
    group: int,
    threshold: float,
    generator: torch.Generator,
) -> Experience:
    """Sample `group` slates of each request and reward them."""
    mask = batch.mask.repeat_interleave(group, dim=0)
    memory = policy.encode(batch.inputs).repeat(group)
    slates = roll_out(policy, memory, mask, threshold_gate(threshold), sample(generator))
    candidates = evaluator.encode(batch.inputs).repeat_interleave(group, dim=0)
    rewards = evaluator.reward(candidates, written_slate(slates)).view(-1, group)
    advantages, useful = group_advantages(rewards)
    return Experience(
        slates=slates,
        reference=_replay(reference, reference.encode(batch.inputs).repeat(group), mask, slates).log_policy,
        advantages=advantages.flatten(),
        useful=useful.repeat_interleave(group),
        rewards=rewards,
    )


def grpo_loss(
    policy: Policy, batch: Batch, experience: Experience, settings: ReinforcementConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped surrogate plus KL to the warm start, mean over written positions of useful groups.

    Returns:
        The loss, and `kl` in nats per position and `clipped`, the share of clipped positions.
    """
    mask = batch.mask.repeat_interleave(settings.group, dim=0)
    memory = policy.encode(batch.inputs).repeat(settings.group)
    now = _replay(policy, memory, mask, experience.slates)
    weight = experience.counted / experience.counted.sum().clamp(min=1)
    ratio = (now.log_probability - experience.slates.log_probability).exp()
    advantage = experience.advantages.unsqueeze(1)
    limited = ratio.clamp(1 - settings.clip, 1 + settings.clip)
    surrogate = torch.minimum(ratio * advantage, limited * advantage)
    divergence = (now.log_policy.exp() * (now.log_policy - experience.reference)).sum(-1)
    loss = (weight * (settings.kl * divergence - surrogate)).sum()
    return loss, {
        "kl": (weight * divergence).sum().detach(),
        "clipped": (weight * (ratio != limited)).sum(),
    }


def _replay(policy: Policy, memory: Memory, mask: Tensor, slates: Rollout) -> Rollout:
    return roll_out(policy, memory, mask, replay_gate(slates.tokens), replay_choice(slates.slate))
