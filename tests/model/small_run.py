"""A run on a small simulated world, for tests that train for real."""

from pathlib import Path

import torch

from model.data.features import DatasetFeatures
from model.policy import Policy
from model.sizes import feature_sizes
from model.training.config import RunConfig, read_config, with_changes

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = {
    "simulator": {"items": 200, "lists": 1500, "strength": 2.0},
    "policy": {"width": 16, "encoder": {"token_width": 4}},
    "evaluator": {"width": 16, "members": 2, "epochs": 4, "batch": 32, "learning_rate": 1e-2},
    "supervised": {"epochs": 2},
    "imitation": {"epochs": 1, "beams": 2},
    "expert_iteration": {"rounds": 2, "epochs": 1},
    "reinforcement": {"epochs": 1, "group": 4},
}


def small_config(**changes: object) -> RunConfig:
    return with_changes(read_config(CONFIGS / "simulator.toml"), {**SMALL, **changes})


def fresh_policy(config: RunConfig, features: DatasetFeatures) -> Policy:
    torch.manual_seed(0)
    return Policy(config.policy, feature_sizes(features.serving)).eval()
