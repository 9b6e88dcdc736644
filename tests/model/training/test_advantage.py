"""Rewards to advantages, by hand."""

import torch

from model.training.advantage import group_advantages


def test_advantages_are_standardised_and_constant_groups_skipped() -> None:
    advantages, useful = group_advantages(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
    assert advantages.tolist() == [[-1.0, 1.0], [0.0, 0.0]]
    assert useful.tolist() == [True, False]
