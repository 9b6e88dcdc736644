"""SetRank: induced set attention, so that the scores do not depend on the order of the input (Pang et al.
2020, "SetRank: Learning a Permutation-Invariant Ranking Model", arXiv 1912.05891).

The variant without ordinal embeddings. Legend: B lists, N candidates, M inducing points, D width.
"""

import torch
from torch import Tensor, nn

from model.baselines.recipe import WIDTH, Orders, Scorer, rank_by_score
from model.baselines.task import Task
from model.encoder import FeatureSizes
from model.training.examples import Batch


class Attend(nn.Module):
    """Multi-head attention block: queries look at keys, then an MLP (MAB of the paper)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, dropout=0.2, batch_first=True)
        self.norm_in, self.norm_out = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, queries: Tensor, keys: Tensor, padding: Tensor | None = None) -> Tensor:
        """`[B, X, D]`, `[B, Y, D]`, `[B, Y] bool, True = not there` -> `[B, X, D]`."""
        read, _ = self.attention(queries, keys, keys, key_padding_mask=padding, need_weights=False)
        x = self.norm_in(queries + read)
        return self.norm_out(x + self.mlp(x))


class SetRank(Scorer):
    BLOCKS, POINTS = 2, 8

    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__(sizes)
        self.points = nn.ParameterList(torch.randn(1, self.POINTS, WIDTH) * 0.1 for _ in range(self.BLOCKS))
        self.gather = nn.ModuleList(Attend() for _ in range(self.BLOCKS))
        self.spread = nn.ModuleList(Attend() for _ in range(self.BLOCKS))
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, batch: Batch) -> Tensor:
        items = self.encoder(**batch.inputs).candidates  # [B, N, D]
        for points, gather, spread in zip(self.points, self.gather, self.spread, strict=True):
            induced = gather(points.expand(len(items), -1, -1), items, ~batch.mask)  # [B, M, D]
            items = spread(items, induced)
        return self.score(items).squeeze(-1)


def rank(task: Task) -> Orders:
    """Candidate indices by score."""
    return rank_by_score(task, SetRank)
