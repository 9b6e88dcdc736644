"""Weights that were saved under an earlier name of a parameter."""

import copy

import pytest
import torch
from tiny_bundle import tiny_features, tiny_policy
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

FEATURES = tiny_features()


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As it was saved when the residual scale was called `gate`."""
    earlier = {name.replace("residual_scale", "gate"): tensor for name, tensor in state.items()}
    assert set(earlier) - set(state)
    return earlier


@pytest.mark.parametrize("reasoner", ["deep", "paper", "pause"])
def test_the_residual_scale_is_read_under_its_earlier_name(reasoner: str) -> None:
    saved, policy = tiny_policy(FEATURES, reasoner, seed=1), tiny_policy(FEATURES, reasoner, seed=2)
    with torch.no_grad():
        saved.reasoner.residual_scale.uniform_()
    policy.load_state_dict(renamed(saved.state_dict()))
    for name, tensor in policy.state_dict().items():
        assert torch.equal(tensor, saved.state_dict()[name]), name


def test_a_copy_and_an_average_read_it_too() -> None:
    """A phase that is resumed loads both."""
    saved = tiny_policy(FEATURES, seed=1)
    with torch.no_grad():
        saved.reasoner.residual_scale.uniform_()
    average = AveragedModel(copy.deepcopy(tiny_policy(FEATURES, seed=2)))
    average.load_state_dict(renamed(AveragedModel(saved).state_dict()))
    assert torch.equal(average.module.reasoner.residual_scale, saved.reasoner.residual_scale)


def test_another_unknown_name_is_still_refused() -> None:
    policy = tiny_policy(FEATURES)
    state = policy.state_dict() | {"reasoner.gates": torch.zeros(16)}
    with pytest.raises(RuntimeError, match=r"reasoner\.gates"):
        policy.load_state_dict(state)
