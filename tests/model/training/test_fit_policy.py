"""Training from an initial ranker's order: kept until something is better."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_run import SMALL, fresh_policy, small_config

from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.evaluator import build_evaluator
from model.sizes import feature_sizes
from model.training.config import RunConfig
from model.training.decoding import decode
from model.training.examples import Example
from model.training.fit_policy import fit_policy
from model.training.phase import RunLog
from model.training.rollout import NEVER, threshold_gate
from model.training.selection import Score, held_out_score

Data = tuple[list[Example], list[Example], RunConfig, DatasetFeatures]
Orders = list[NDArray[np.int64]]


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return small_config(
        policy={**SMALL["policy"], "base_score": True},
        supervised={"epochs": 1},
        imitation={"epochs": 1, "beams": 2, "learning_rate": 1e-2, "batch": 32},
        expert_iteration={"rounds": 1, "epochs": 1},
    )


def initial_order(rows: list[Example], features: DatasetFeatures, length: int) -> Orders:
    """By the scores as they come, best first, the first of equals first."""
    column = features.serving.candidate_columns.index("initial_score")
    scores = [row.inputs["candidate_numeric"][:, column] for row in rows]
    return [np.argsort(-values, kind="stable")[:length] for values in scores]


def trained(config: RunConfig, data: Data, run: Path, score: Score) -> tuple[dict[str, float], Orders, bool]:
    """Scores of the phases, greedy held-out lists, and whether the weights are those before training."""
    training, held_out, _, features = data
    torch.manual_seed(0)
    evaluator = build_evaluator(config.evaluator, 1, feature_sizes(features.serving)).eval()
    policy = fresh_policy(config, features)
    scores = fit_policy(config, run, RunLog(run), policy, evaluator, training[:300], held_out, score)
    slates = [
        slate for rollout in decode(policy, held_out, threshold_gate(NEVER)) for slate in rollout.slates()
    ]
    fresh = fresh_policy(config, features).state_dict()
    untouched = all(torch.equal(tensor, fresh[name]) for name, tensor in policy.state_dict().items())
    return scores, slates, untouched


def test_training_that_does_not_help_leaves_the_rankers_order(
    config: RunConfig, data: Data, tmp_path: Path
) -> None:
    expected = initial_order(data[1], data[3], config.policy.slate_length)

    def score(orders: Orders) -> tuple[float, dict[str, float]]:
        """No order is better than the ranker's."""
        return float(np.mean([np.array_equal(*pair) for pair in zip(orders, expected, strict=True)])), {}

    scores, slates, untouched = trained(config, data, tmp_path, score)
    assert list(scores) == ["initial ranker", "warm start", "imitation", "expert iteration 1", "grpo"]
    assert set(scores.values()) == {1.0}
    assert untouched
    assert all(np.array_equal(*pair) for pair in zip(slates, expected, strict=True))


def test_training_that_helps_is_kept(config: RunConfig, data: Data, tmp_path: Path) -> None:
    score = held_out_score(open_dataset(config))
    scores, slates, untouched = trained(config, data, tmp_path, score)
    assert scores["grpo"] > scores["initial ranker"]
    assert score(slates)[0] > scores["initial ranker"]
    assert not untouched
