"""DLCM: a GRU reads the initial list, its last state re-scores every item (Ai et al. 2018, "Learning a
Deep Listwise Context Model for Ranking Refinement", arXiv 1804.05936).

Departs in reading the light encoder's candidates. Legend: B lists, N candidates, D width.
"""

import torch
from torch import Tensor, nn

from model.baselines.recipe import WIDTH, Orders, Scorer, rank_by_score
from model.baselines.task import Task
from model.encoder import FeatureSizes
from model.training.examples import Batch


class DLCM(Scorer):
    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__(sizes)
        self.reader = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.context, self.score = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, batch: Batch) -> Tensor:
        items = self.encoder(**batch.inputs).candidates  # [B, N, D]
        # From the last item to the first, so that the best are the freshest; padding stays behind them.
        count = batch.mask.sum(1, keepdim=True)  # [B, 1]
        turn = (
            (count - 1 - torch.arange(items.shape[1], device=items.device))
            .clamp(min=0)
            .unsqueeze(-1)
            .expand_as(items)
        )
        read, _ = self.reader(items.gather(1, turn))
        last = read.gather(1, (count - 1).unsqueeze(-1).expand(-1, 1, WIDTH))
        context = torch.tanh(self.context(last))  # [B, 1, D]
        return self.score(read.gather(1, turn) * context).squeeze(-1)


def rank(task: Task) -> Orders:
    """Candidate indices by score."""
    return rank_by_score(task, DLCM)
