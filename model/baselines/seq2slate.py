"""Seq2Slate: an LSTM pointer taught by labels (Bello et al. 2018, "Seq2Slate: Re-ranking and Slate
Optimization with RNNs", arXiv 1810.02019), the supervised variant with greedy decoding.

It is the policy with the LSTM decoder and no reasoning; departs in the light encoder's candidates, where
the paper reads them with an LSTM too.
"""

import torch
from torch import Tensor

from model.baselines import recipe
from model.baselines.recipe import Orders, Rank
from model.baselines.task import Task
from model.config import PolicyConfig, ReasonerConfig
from model.encoder import FeatureSizes
from model.policy import Policy
from model.training.examples import Batch
from model.training.rollout import NEVER, greedy, roll_out, threshold_gate
from model.training.supervised import label_teacher, supervised_loss


def pointer(sizes: FeatureSizes, decoder: str, length: int) -> Policy:
    """A pointer network that does not reason."""
    return Policy(
        PolicyConfig(decoder=decoder, slate_length=length, reasoner=ReasonerConfig(budget=0)), sizes
    )


def teach(task: Task, policy: Policy) -> None:
    """The supervised fit."""

    def loss(batch: Batch, generator: torch.Generator) -> Tensor:
        teacher = label_teacher(batch.labels, 1.0, generator)
        return supervised_loss(policy, batch.inputs, teacher, generator)[0]

    recipe.fit(task, "supervised", policy, loss, greedy_slates)


def greedy_slates(policy: torch.nn.Module) -> Rank:
    """Greedy decoding of a policy."""
    assert isinstance(policy, Policy)

    def rank(batch: Batch) -> Tensor:
        memory = policy.encode(batch.inputs)
        return roll_out(policy, memory, batch.mask, threshold_gate(NEVER), greedy).slate

    return rank


def rank(task: Task) -> Orders:
    """Greedy slates."""
    torch.manual_seed(task.seed)
    policy = pointer(task.sizes, "lstm", task.slate_length)
    teach(task, policy)
    return recipe.ranked(greedy_slates(policy), task.test)
