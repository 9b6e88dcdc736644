"""PRM: a transformer over the initial list with personalised items and position embeddings (Pei et al.
2019, "Personalized Re-ranking for Recommendation", arXiv 1904.06813).

Departs in taking the user from the light encoder, not from a pre-trained click model.
Legend: B lists, N candidates, D width.
"""

import torch
from torch import Tensor, nn

from model.attention import SelfAttention
from model.baselines.recipe import WIDTH, Orders, Scorer, rank_by_score
from model.baselines.task import Task
from model.encoder import FeatureSizes
from model.training.examples import Batch

LONGEST = 512


class PRM(Scorer):
    LAYERS = 2

    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__(sizes)
        self.position = nn.Embedding(LONGEST, WIDTH)
        nn.init.normal_(self.position.weight, std=0.02)
        self.layers = nn.ModuleList(SelfAttention(WIDTH, 2, 0.2) for _ in range(self.LAYERS))
        self.score = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1))

    def forward(self, batch: Batch) -> Tensor:
        items = self.encoder(**batch.inputs).candidates  # [B, N, D]
        places = torch.arange(items.shape[1], device=items.device)
        items = items + self.position(places.clamp(max=LONGEST - 1))
        for layer in self.layers:
            items = layer(items, batch.mask)
        return self.score(items).squeeze(-1)


def rank(task: Task) -> Orders:
    """Candidate indices by score."""
    return rank_by_score(task, PRM)
