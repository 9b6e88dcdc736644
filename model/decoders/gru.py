"""GRU pointer decoder, as in the CMR family (Chen et al. 2023, arXiv 2306.05118), dot-product pointer.

Legend: B requests, N candidates, D width.
"""

import torch
from torch import Tensor, nn

from model.decoders.protocol import DecoderState
from model.encoder import Memory, masked_mean


class GRUDecoder(nn.Module):
    """State: one hidden vector `[B, D]`, which is also the readout."""

    state_axes = (("hidden", ("B", "D")),)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.start = nn.Linear(2 * width, width)
        self.cell = nn.GRUCell(width, width)

    def init_state(self, memory: Memory, mask: Tensor) -> DecoderState:
        pooled = masked_mean(memory.memory, mask.float())
        return (torch.tanh(self.start(torch.cat([memory.user, pooled], dim=-1))),)

    def step(self, token: Tensor, state: DecoderState) -> DecoderState:
        return (self.cell(token, state[0]),)

    def logits(self, readout: Tensor, memory: Memory) -> Tensor:
        return (memory.pointer_keys @ readout.unsqueeze(-1)).squeeze(-1) + memory.pointer_bias
