"""A non-autoregressive generator: every candidate at every position in one pass (in the manner of NAR4Rec,
Ren et al. 2024, "Non-autoregressive Generative Models for Reranking Recommendation", arXiv 2402.06871).

Keeps the position encoder that looks at the candidates, the matching of both, and unlikelihood of what
was shown in vain. Departs in teaching labels instead of exposed lists by their utility, and in decoding
position by position among what is free, instead of by contrastive decoding.
Legend: B lists, N candidates, K positions, D width.
"""

import torch
from torch import Tensor, nn

from bundle.contract import MASKED_LOGIT
from model.attention import SelfAttention
from model.baselines import recipe
from model.baselines.recipe import WIDTH, Orders
from model.baselines.setrank import Attend
from model.baselines.task import Task
from model.config import EncoderConfig
from model.encoder import Encoder, FeatureSizes
from model.training.examples import Batch


class Generator(nn.Module):
    def __init__(self, sizes: FeatureSizes, positions: int) -> None:
        super().__init__()
        self.encoder = Encoder(sizes, WIDTH, (1, 1), EncoderConfig())
        self.candidates = SelfAttention(WIDTH, 2, 0.2)
        self.positions = nn.Parameter(torch.randn(1, positions, WIDTH) * 0.1)
        self.look = Attend()
        self.match = nn.Linear(WIDTH, WIDTH)

    def forward(self, batch: Batch) -> Tensor:
        """Log-probability of each candidate at each position. `[B, K, N]`."""
        items = self.candidates(self.encoder(**batch.inputs).candidates, batch.mask)  # [B, N, D]
        places = self.look(self.positions.expand(len(items), -1, -1), items, ~batch.mask)  # [B, K, D]
        scores = self.match(places) @ items.transpose(1, 2) / WIDTH**0.5
        return scores.masked_fill(~batch.mask.unsqueeze(1), MASKED_LOGIT).log_softmax(-1)


def loss(log_p: Tensor, batch: Batch) -> Tensor:
    """The first positions want what was clicked, each position as many as there are; all positions avoid
    what was shown and not clicked."""
    clicks = batch.labels.sum(1, keepdim=True)  # [B, 1]
    wanted = torch.arange(log_p.shape[1], device=log_p.device) < clicks  # [B, K]
    likelihood = (log_p * (batch.labels / clicks.clamp(min=1)).unsqueeze(1)).sum(-1)
    in_vain = recipe.shown(batch) & (batch.labels == 0)
    unlikelihood = torch.log1p(-log_p.exp().clamp(max=0.999)) * in_vain.unsqueeze(1)
    total = (likelihood * wanted).sum() + unlikelihood.sum(-1)[wanted].sum()
    return -total / wanted.sum().clamp(min=1)


def assign(log_p: Tensor, batch: Batch) -> Tensor:
    """Position by position, the best candidate still free. `[B, K, N]` -> `[B, K]`."""
    free, slate = batch.mask.clone(), []
    for position in log_p.unbind(1):
        best = position.masked_fill(~free, -torch.inf).argmax(1)
        slate.append(best)
        free = free.scatter(1, best.unsqueeze(1), False)
    return torch.stack(slate, dim=1)


def rank(task: Task) -> Orders:
    """Slates by assignment."""
    torch.manual_seed(task.seed)
    model = Generator(task.sizes, task.slate_length)
    recipe.fit(
        task,
        "generator",
        model,
        lambda batch, _: loss(model(batch), batch),
        lambda module: lambda batch: assign(module(batch), batch),
    )
    return recipe.ranked(lambda batch: assign(model(batch), batch), task.test)
