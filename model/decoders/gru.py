"""GRU pointer, the default decoder.

Legend: B requests, D width.
"""

import torch
from torch import Tensor, nn

from model.decoders.pointer import Pointer
from model.decoders.protocol import DecoderState, StateAxes
from model.encoder import Memory


class GRUDecoder(Pointer):
    """State: one hidden vector `[B, D]`, which is also the readout."""

    state_axes: StateAxes = (("hidden", ("B", "D")),)

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.cell = nn.GRUCell(width, width)

    def init_state(self, memory: Memory, mask: Tensor) -> DecoderState:
        return (self.first_token(memory, mask),)

    def step(self, token: Tensor, state: DecoderState) -> DecoderState:
        return (self.cell(token, state[0]),)

    def blend(self, old: DecoderState, new: DecoderState, share: Tensor) -> DecoderState:
        return (torch.lerp(old[0], new[0], share),)
