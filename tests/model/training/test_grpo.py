"""GRPO: where it starts, and that it earns more."""

import copy

import numpy as np
import pytest
import torch
from small_run import fresh_policy

from model.evaluator import Evaluator
from model.sizes import feature_sizes
from model.training.config import EvaluatorConfig, ReinforcementConfig
from model.training.examples import to_batch
from model.training.grpo import collect, grpo_loss


def test_the_first_grpo_update_starts_from_ratio_one(data) -> None:
    training, _, config, features = data
    policy, reference = fresh_policy(config, features), fresh_policy(config, features)
    torch.manual_seed(1)
    evaluator = Evaluator(EvaluatorConfig(width=16), feature_sizes(features.serving)).eval()
    batch, settings = to_batch(training[:16]), ReinforcementConfig(group=4)
    generator = torch.Generator().manual_seed(0)
    experience = collect(policy, reference, evaluator, batch, 4, 0.5, generator)
    loss, metrics = grpo_loss(policy, batch, experience, settings)
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["clipped"] == 0.0
    assert loss.item() == pytest.approx(0.0, abs=1e-5)  # advantages of a group add up to nothing
    assert experience.rewards.shape == (16, 4)


def test_grpo_raises_the_reward(data) -> None:
    training, _, config, features = data
    policy = fresh_policy(config, features)
    reference = copy.deepcopy(policy)
    torch.manual_seed(1)
    evaluator = Evaluator(EvaluatorConfig(width=16), feature_sizes(features.serving)).eval()
    settings = ReinforcementConfig(group=8, kl=0.0, learning_rate=3e-3)
    optimizer, generator = torch.optim.Adam(policy.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
    batch, rewards = to_batch(training[:32]), []
    for _ in range(30):
        experience = collect(policy, reference, evaluator, batch, 8, 0.5, generator)
        loss, _ = grpo_loss(policy, batch, experience, settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(experience.rewards.mean().item())
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.01
