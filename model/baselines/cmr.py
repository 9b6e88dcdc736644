"""A pointer trained by REINFORCE on an evaluator's scores, in the manner of CMR (Chen et al. 2023,
"Controllable Multi-Objective Re-ranking with Policy Hypernetworks", arXiv 2306.05118).

Keeps the GRU pointer and the self-critical REINFORCE of its actor; departs in leaving the hypernetwork
out, since there is one objective. Legend: B lists, K slate length.
"""

import torch
from torch import Tensor

from model.baselines import recipe
from model.baselines.recipe import Orders
from model.baselines.seq2slate import greedy_slates, pointer, teach
from model.baselines.task import Task
from model.training.examples import Batch
from model.training.grpo import written_slate
from model.training.rollout import NEVER, greedy, roll_out, sample, threshold_gate


def rank(task: Task) -> Orders:
    """Greedy slates.

    Raises:
        ValueError: the task has no evaluator.
    """
    evaluator = task.evaluator
    if evaluator is None:
        raise ValueError("CMR learns from an evaluator; the task has none")
    torch.manual_seed(task.seed)
    policy = pointer(task.sizes, "gru", task.slate_length)
    teach(task, policy)

    def loss(batch: Batch, generator: torch.Generator) -> Tensor:
        policy.eval()
        memory, never = policy.encode(batch.inputs), threshold_gate(NEVER)
        sampled = roll_out(policy, memory, batch.mask, never, sample(generator))
        with torch.no_grad():
            best = roll_out(policy, memory, batch.mask, never, greedy)
            candidates = evaluator.encode(batch.inputs)
            gain = evaluator.reward(candidates, written_slate(sampled))
            gain = gain - evaluator.reward(candidates, written_slate(best))  # [B]
            scale = gain.std() if len(gain) > 1 else gain.abs()  # a last batch may have one list
            gain = gain / scale.clamp(min=1e-6)
        log_p = (sampled.log_probability * sampled.written).sum(1)
        return -(gain * log_p).mean()

    recipe.fit(task, "reinforce", policy, loss, greedy_slates)
    return recipe.ranked(greedy_slates(policy), task.test)
