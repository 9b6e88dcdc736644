"""How candidates see each other: every pair of them, or all through a few points.

Legend: B requests, N candidates, D width, M inducing points.
"""

import math

import torch
from torch import Tensor, nn

from bundle.contract import MASKED_LOGIT


class SelfAttention(nn.Module):
    """One pre-norm transformer layer over candidates (Vaswani et al. 2017); its cost grows with N x N."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in, self.norm_mid = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, N, D]`, `[B, N] bool` -> `[B, N, D]`."""
        q, k, v = self.qkv(self.norm_in(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # [B, heads, N, N]
        scores = scores.masked_fill(~mask[:, None, None, :], MASKED_LOGIT)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.mlp(self.norm_mid(x)))


class InducingAttention(nn.Module):
    """One pre-norm layer in which M learned points read the candidates and the candidates read the points
    (ISAB, Lee et al. 2019, arXiv 1810.00825, eq. 9); its cost grows with N x M.

    Departs from ISAB in having one head and no projection on the candidates' side: what would stand there
    folds into the points, which are few, so that a candidate costs 4 M D multiplications beside its MLP.
    """

    def __init__(self, width: int, points: int, dropout: float) -> None:
        super().__init__()
        self.norm_in, self.norm_mid = nn.LayerNorm(width), nn.LayerNorm(width)
        self.points = nn.Parameter(torch.randn(points, width))
        self.summary = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2 * width))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, N, D]`, `[B, N] bool` -> `[B, N, D]`."""
        seen, scale = self.norm_in(x), 1.0 / math.sqrt(x.shape[-1])
        scores = (self.points * scale) @ seen.transpose(1, 2)  # [B, M, N]
        read = scores.masked_fill(~mask.unsqueeze(1), MASKED_LOGIT).softmax(-1) @ seen  # [B, M, D]
        keys, values = self.summary(read).chunk(2, dim=-1)
        mixed = (seen @ (keys * scale).transpose(1, 2)).softmax(-1) @ values
        x = x + self.dropout(mixed)
        return x + self.dropout(self.mlp(self.norm_mid(x)))
