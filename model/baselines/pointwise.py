"""Each item's click by itself: log loss per item, sort by probability.

What sorting by marginals gives with the features and the encoder that the policies have: of the other
candidates it knows list ranks and the mean, as they do, of the order it makes nothing.
Legend: B lists, N candidates.
"""

import torch
from torch import Tensor, nn

from model.baselines.recipe import WIDTH, Orders, Scorer, fit, ranked, shown, sort
from model.baselines.task import Task
from model.encoder import FeatureSizes
from model.training.examples import Batch


class Pointwise(Scorer):
    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__(sizes)
        self.score = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def forward(self, batch: Batch) -> Tensor:
        """Click log odds. `[B, N]`."""
        scores: Tensor = self.score(self.encoder(**batch.inputs).candidates).squeeze(-1)
        return scores


def rank(task: Task) -> Orders:
    """Candidate indices by click probability."""
    torch.manual_seed(task.seed)
    scorer = Pointwise(task.sizes)

    def loss(batch: Batch, _: torch.Generator) -> Tensor:
        seen = shown(batch)
        return nn.functional.binary_cross_entropy_with_logits(scorer(batch)[seen], batch.labels[seen])

    fit(task, "scorer", scorer, loss, lambda module: lambda batch: sort(module(batch), batch, task))
    return ranked(lambda batch: sort(scorer(batch), batch, task), task.test)
