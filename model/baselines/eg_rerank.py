"""EG-Rerank: a generator trained by PPO on an evaluator's scores (Huzhang et al. 2020, "AliExpress
Learning-To-Rank: Maximizing Online Model Performance without Going Online", arXiv 2003.11941).

An LSTM pointer, warm-started on labels. Departs in the baseline of its advantages, the mean of a group of
slates instead of a critic, and in leaving the discriminator of EG-Rerank+ out.
"""

import torch
from torch import Tensor

from model.baselines import recipe
from model.baselines.recipe import Orders
from model.baselines.seq2slate import greedy_slates, pointer, teach
from model.baselines.task import Task
from model.training.config import ReinforcementConfig
from model.training.examples import Batch
from model.training.grpo import collect, grpo_loss
from model.training.rollout import NEVER

PPO = ReinforcementConfig(group=4, kl=0.0)


def rank(task: Task) -> Orders:
    """Greedy slates.

    Raises:
        ValueError: the task has no evaluator.
    """
    evaluator = task.evaluator
    if evaluator is None:
        raise ValueError("EG-Rerank learns from an evaluator; the task has none")
    torch.manual_seed(task.seed)
    policy = pointer(task.sizes, "lstm", task.slate_length)
    teach(task, policy)

    def loss(batch: Batch, generator: torch.Generator) -> Tensor:
        policy.eval()  # dropout off, so that the likelihoods are those of the slates' own policy
        experience = collect(policy, policy, evaluator, batch, PPO.group, NEVER, generator)
        return grpo_loss(policy, batch, experience, PPO)[0]

    recipe.fit(task, "ppo", policy, loss, greedy_slates)
    return recipe.ranked(greedy_slates(policy), task.test)
