"""LSTM pointer (Seq2Slate, Bello et al. 2018, arXiv 1810.02019).

Legend: B requests, D width.
"""

import torch
from torch import Tensor, nn

from model.decoders.pointer import Pointer
from model.decoders.protocol import DecoderState, StateAxes
from model.encoder import Memory


class LSTMDecoder(Pointer):
    """State: hidden vector, which is also the readout, and cell, `[B, D]` each."""

    state_axes: StateAxes = (("hidden", ("B", "D")), ("cell", ("B", "D")))

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.cell = nn.LSTMCell(width, width)

    def init_state(self, memory: Memory, mask: Tensor) -> DecoderState:
        first = self.first_token(memory, mask)
        return first, torch.zeros_like(first)

    def step(self, token: Tensor, state: DecoderState) -> DecoderState:
        hidden, cell = self.cell(token, (state[0], state[1]))
        return hidden, cell

    def blend(self, old: DecoderState, new: DecoderState, share: Tensor) -> DecoderState:
        return tuple(torch.lerp(a, b, share) for a, b in zip(old, new, strict=True))
