"""Attention over candidates: by hand, under padding, in any order, and what it costs."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.attention import InducingAttention, SelfAttention

WIDTH = 8


def layer(kind: str) -> nn.Module:
    torch.manual_seed(0)
    made = SelfAttention(WIDTH, 2, 0.5) if kind == "full" else InducingAttention(WIDTH, 3, 0.5)
    return made.eval()


def candidates(rows: int, count: int) -> torch.Tensor:
    return torch.randn(rows, count, WIDTH, generator=torch.Generator().manual_seed(1))


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


@torch.no_grad()
def test_inducing_attention_by_hand() -> None:
    attention, x = layer("inducing"), candidates(1, 5)
    weights = {name: tensor.numpy().astype(np.float64) for name, tensor in attention.state_dict().items()}

    def mlp(name: str, row: np.ndarray) -> np.ndarray:
        hidden = np.maximum(weights[f"{name}.0.weight"] @ row + weights[f"{name}.0.bias"], 0)
        return np.asarray(weights[f"{name}.2.weight"] @ hidden + weights[f"{name}.2.bias"])

    rows = [row.astype(np.float64) for row in x[0].numpy()]
    seen = [norm(row) for row in rows]
    notes = []
    for point in weights["points"]:
        shares = softmax(np.array([point @ row for row in seen]) / np.sqrt(WIDTH))
        notes.append(mlp("summary", sum(share * row for share, row in zip(shares, seen, strict=True))))
    expected = []
    for row, own in zip(rows, seen, strict=True):
        shares = softmax(np.array([own @ note[:WIDTH] for note in notes]) / np.sqrt(WIDTH))
        row = row + sum(share * note[WIDTH:] for share, note in zip(shares, notes, strict=True))
        expected.append(row + mlp("mlp", norm(row)))
    found = attention(x, torch.ones(1, 5, dtype=torch.bool))
    np.testing.assert_allclose(found[0].numpy(), np.array(expected), atol=1e-5)


@pytest.mark.parametrize("kind", ["full", "inducing"])
@torch.no_grad()
def test_padding_is_not_there(kind: str) -> None:
    attention, x = layer(kind), candidates(2, 900)
    mask = torch.ones(2, 900, dtype=torch.bool)
    mask[0, 40:] = False
    together = attention(x, mask)
    torch.testing.assert_close(together[:1, :40], attention(x[:1, :40], mask[:1, :40]))
    torch.testing.assert_close(together[1:], attention(x[1:], mask[1:]))
    other = torch.where(mask.unsqueeze(-1), x, 1e3)  # whatever stands in the padding
    torch.testing.assert_close(attention(other, mask)[mask], together[mask], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["full", "inducing"])
@torch.no_grad()
def test_candidates_may_stand_in_any_order(kind: str) -> None:
    attention, x, mask = layer(kind), candidates(1, 50), torch.ones(1, 50, dtype=torch.bool)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(attention(x[:, order], mask), attention(x, mask)[:, order])


@pytest.mark.parametrize("kind", ["full", "inducing"])
@torch.no_grad()
def test_candidates_see_each_other(kind: str) -> None:
    attention, x, mask = layer(kind), candidates(1, 50), torch.ones(1, 50, dtype=torch.bool)
    changed = x.clone()
    changed[0, 7] *= -3.0
    moved = (attention(changed, mask) - attention(x, mask)).abs().amax(-1)[0]
    assert (moved > 0).all()


@pytest.mark.parametrize(("kind", "linear"), [("full", False), ("inducing", True)])
@torch.no_grad()
def test_what_twice_the_candidates_cost(kind: str, linear: bool) -> None:
    flops = []
    for count in (500, 1000):
        with FlopCounterMode(display=False) as counter:
            layer(kind)(candidates(1, count), torch.ones(1, count, dtype=torch.bool))
        flops.append(counter.get_total_flops())
    assert (flops[1] <= 2 * flops[0]) == linear
