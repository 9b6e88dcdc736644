"""What a decoder must offer to be reasoned with; examples/own_decoder.py writes one.

Legend: B requests, N candidates, D width.
"""

from typing import Protocol

from torch import Tensor

from model.encoder import Memory

DecoderState = tuple[Tensor, ...]
"""Named tensors of a decoder's state, all float32 with B first; the first is its readout `[B, D]`."""


StateAxes = tuple[tuple[str, tuple[str | int, ...]], ...]
"""Name and axes of each tensor of a decoder's state."""


class Decoder(Protocol):
    """Four pure functions, and the state they pass along.

    A state keeps its shape from step to step: rows that reason and rows that commit share a batch.
    """

    state_axes: StateAxes

    def init_state(self, memory: Memory, mask: Tensor) -> DecoderState:
        """State before the first position. `mask` is `[B, N] bool, True = a real candidate`."""
        ...

    def step(self, token: Tensor, state: DecoderState) -> DecoderState:
        """State after reading a token `[B, D]`: a chosen candidate's memory, or a reasoning token."""
        ...

    def blend(self, old: DecoderState, new: DecoderState, share: Tensor) -> DecoderState:
        """The state part of the way (`share`, `[D]`) from before a reasoning token to after it."""
        ...

    def logits(self, readout: Tensor, memory: Memory) -> Tensor:
        """Score of every candidate as the next item, unmasked. `[B, D]` -> `[B, N]`."""
        ...
