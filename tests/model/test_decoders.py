"""Every decoder against an independent computation of what its state should be."""

import pytest
import torch
from tiny_bundle import tiny_features, tiny_policy
from torch import Tensor

from model.config import PolicyConfig
from model.decoders import transformer
from model.encoder import Memory
from model.policy import DECODERS, Policy
from model.sizes import feature_sizes

WIDTH, ROWS = 16, 3


def memory() -> tuple[Memory, Tensor]:
    torch.manual_seed(1)
    shapes = {
        "candidates": (ROWS, 5, WIDTH),
        "user": (ROWS, WIDTH),
        "pointer_keys": (ROWS, 5, WIDTH),
        "pointer_bias": (ROWS, 5),
        "reasoning_memory": (ROWS, 4, 5, 8),
    }
    return Memory(**{name: torch.randn(shape) for name, shape in shapes.items()}), torch.ones(
        ROWS, 5, dtype=torch.bool
    )


@torch.no_grad()
def test_lstm_steps_are_those_of_torch() -> None:
    torch.manual_seed(0)
    decoder, (known, mask), tokens = DECODERS["lstm"](WIDTH), memory(), torch.randn(4, ROWS, WIDTH)
    state = decoder.init_state(known, mask)
    reference = torch.nn.LSTM(WIDTH, WIDTH)
    for name, value in decoder.cell.named_parameters():
        getattr(reference, f"{name}_l0").copy_(value)
    expected, (_, cell) = reference(tokens, (state[0].unsqueeze(0), state[1].unsqueeze(0)))
    for token in tokens:
        state = decoder.step(token, state)
    torch.testing.assert_close(state[0], expected[-1])
    torch.testing.assert_close(state[1], cell[0])


def full_attention(decoder: transformer.TransformerDecoder, tokens: Tensor) -> Tensor:
    """The readout after `[T, B, D]` tokens, all at once with a causal mask and no cache. `[B, D]`."""
    x = tokens.transpose(0, 1)
    count = x.shape[1]
    age = torch.arange(count)[:, None] - torch.arange(count)[None, :]  # of each key seen from each query
    seen = (age >= 0) & (age < transformer.WINDOW)
    for layer in decoder.layers:
        projected = layer.qkv(layer.norm_in(x))
        heads = []
        for head in range(layer.HEADS):
            size = WIDTH // layer.HEADS
            q, k, v = (
                projected[..., part * WIDTH + head * size : part * WIDTH + (head + 1) * size]
                for part in range(3)
            )
            bias = layer.age[head, 0][(transformer.WINDOW - 1 - age).clamp(0, transformer.WINDOW - 1)]
            scores = (q @ k.transpose(1, 2) / size**0.5 + bias).masked_fill(~seen, -float("inf"))
            heads.append(scores.softmax(-1) @ v)
        x = x + layer.out(torch.cat(heads, dim=-1))
        x = x + layer.mlp(layer.norm_mid(x))
    return decoder.norm(x[:, -1])


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 4, transformer.WINDOW + 3])
def test_transformer_steps_are_full_attention(count: int) -> None:
    torch.manual_seed(0)
    decoder, (known, mask) = DECODERS["transformer"](WIDTH), memory()
    for layer in decoder.layers:
        layer.age.normal_()
    tokens = torch.randn(count, ROWS, WIDTH)
    state = decoder.init_state(known, mask)
    for token in tokens[1:]:
        state = decoder.step(token, state)
    tokens[0] = decoder.first_token(known, mask)
    if count <= transformer.WINDOW:
        torch.testing.assert_close(state[0], full_attention(decoder, tokens), rtol=1e-4, atol=1e-5)
    assert state[-1].sum(1).tolist() == [min(count, transformer.WINDOW)] * ROWS


@torch.no_grad()
def test_a_reasoning_token_extends_the_transformers_sequence() -> None:
    features = tiny_features()
    policy = tiny_policy(features, "paper", decoder="transformer")
    known, mask = memory()
    known = known._replace(reasoning_memory=torch.randn(ROWS, 1, 5, WIDTH))
    state = policy.begin(known, mask)
    logits = policy.decoder.logits(state.readout, known)
    after = policy.reason(state, logits, known, torch.full((ROWS, 1), 1.5))
    assert (after.decoder[-1].sum(1) == state.decoder[-1].sum(1) + 1).all()
    deep = tiny_policy(features, "deep", decoder="transformer")
    known = known._replace(reasoning_memory=torch.randn(ROWS, 4, 5, 8))
    state = deep.begin(known, mask)
    after = deep.reason(state, logits, known, torch.full((ROWS, 1), 1.5))
    assert all(a is b for a, b in zip(after.decoder, state.decoder, strict=True))


def test_an_unknown_decoder_is_named() -> None:
    with pytest.raises(ValueError, match=r"policy\.decoder: 'grru' is not one of gru, lstm, transformer"):
        Policy(PolicyConfig(decoder="grru"), feature_sizes(tiny_features()))
