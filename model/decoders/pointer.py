"""What the pointer decoders share: how they start, and how they score candidates.

Legend: B requests, N candidates, D width.
"""

import torch
from torch import Tensor, nn

from model.encoder import Memory, masked_mean


class Pointer(nn.Module):
    """Starts from the user and the mean candidate; scores by dot product with each candidate's key."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.start = nn.Linear(2 * width, width)

    def first_token(self, memory: Memory, mask: Tensor) -> Tensor:
        """`[B, D]`, from user and candidates."""
        pooled = masked_mean(memory.candidates, mask.float())
        return torch.tanh(self.start(torch.cat([memory.user, pooled], dim=-1)))

    def logits(self, readout: Tensor, memory: Memory) -> Tensor:
        return (memory.pointer_keys @ readout.unsqueeze(-1)).squeeze(-1) + memory.pointer_bias
