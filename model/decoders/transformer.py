"""Transformer decoder over the tokens so far: every item, and every reasoning token, extends its keys
and values (Vaswani et al. 2017, arXiv 1706.03762; pre-norm).

The state keeps its shape, because rows that reason and rows that commit share a batch and a graph: a
window of the latest tokens slides along, and a learned bias for a token's age stands for its position.
Legend: B requests, D width, T tokens in the window.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.contract import MASKED_LOGIT
from model.decoders.pointer import Pointer
from model.decoders.protocol import DecoderState, StateAxes
from model.encoder import Memory

WINDOW = 32
"""Tokens that are remembered; a slate of 10 with two reasoning tokens a position has at most 31."""


class DecoderLayer(nn.Module):
    """Attention of the newest token over the window, itself included, and an MLP."""

    HEADS = 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_in, self.norm_mid = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.age = nn.Parameter(torch.zeros(self.HEADS, 1, WINDOW))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, past: Tensor, absent: Tensor) -> tuple[Tensor, Tensor]:
        """One token `[B, D]`, past keys and values `[B, T, 2 D]`, `[B, 1, 1, T]` -> token, keys and values.

        `absent` is added to the scores: 0 for a token, `MASKED_LOGIT` where there is none yet.
        """
        query, key_value = self.qkv(self.norm_in(x)).split([x.shape[-1], 2 * x.shape[-1]], dim=-1)
        present = torch.cat([past[:, 1:], key_value.unsqueeze(1)], dim=1)
        keys, values = present.unflatten(-1, (2, self.HEADS, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, T, .]
        heads = query.unflatten(-1, (self.HEADS, 1, -1))  # [B, heads, 1, D / heads]
        scores = heads @ keys.transpose(-1, -2) / math.sqrt(heads.shape[-1]) + self.age + absent
        x = x + self.out((scores.softmax(-1) @ values).flatten(1))
        return x + self.mlp(self.norm_mid(x)), present


class TransformerDecoder(Pointer):
    """State: the readout `[B, D]`, each layer's keys and values `[B, T, 2 D]`, newest last, and which of
    the window's places are taken, `[B, T]`, 1 or 0."""

    LAYERS = 2

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.layers = nn.ModuleList(DecoderLayer(width) for _ in range(self.LAYERS))
        self.norm = nn.LayerNorm(width)
        caches = tuple((f"keys_values_{layer}", ("B", WINDOW, 2 * width)) for layer in range(self.LAYERS))
        self.state_axes: StateAxes = (("hidden", ("B", "D")), *caches, ("taken", ("B", WINDOW)))

    def init_state(self, memory: Memory, mask: Tensor) -> DecoderState:
        first = self.first_token(memory, mask)
        rows, width = first.shape
        empty = first.new_zeros(rows, WINDOW, 2 * width)
        return self.step(first, (first, *[empty] * self.LAYERS, first.new_zeros(rows, WINDOW)))

    def step(self, token: Tensor, state: DecoderState) -> DecoderState:
        *pasts, taken = state[1:]
        taken = F.pad(taken[:, 1:], (0, 1), value=1.0)
        absent = ((1.0 - taken) * MASKED_LOGIT)[:, None, None, :]
        caches = []
        for layer, past in zip(self.layers, pasts, strict=True):
            token, present = layer(token, past, absent)
            caches.append(present)
        return (self.norm(token), *caches, taken)

    def blend(self, old: DecoderState, new: DecoderState, share: Tensor) -> DecoderState:
        return (torch.lerp(old[0], new[0], share), *new[1:])
