"""The evaluator: a list-wise click model, the reward of reinforcement learning.

Given the user and a list in order, one click probability per position (sigmoid, not a softmax across
positions), so that the same item is worth more or less by where it stands and what stands around it.
Shares no weights with the policy. Legend: B lists, N candidates, L positions, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import EncoderConfig, EvaluatorConfig
from model.contract import NO_ITEM
from model.encoder import Encoder, FeatureSizes, SelfAttention


class Evaluator(nn.Module):
    """Scores lists of any length; positions from `config.longest` on share one embedding."""

    def __init__(self, config: EvaluatorConfig, sizes: FeatureSizes) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(sizes, config.width, (1, 1), EncoderConfig(dropout=config.dropout))
        self.position = nn.Embedding(config.longest, config.width)
        nn.init.normal_(self.position.weight, std=0.02)
        self.attention = SelfAttention(config.width, config.heads, config.dropout)
        self.click = nn.Linear(config.width, 1)

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Candidates of a request, before any list is made of them. `[B, N, D]`."""
        return self.encoder(**inputs).memory

    def logits(self, candidates: Tensor, slate: Tensor) -> Tensor:
        """Click log odds at each position.

        Args:
            candidates: `[B, N, D]`, from `encode`.
            slate: `[B, L] int64`, candidate indices in order, NO_ITEM past the end of a list.

        Returns:
            `[B, L]`; means nothing where the slate is NO_ITEM.
        """
        written = slate != NO_ITEM
        index = slate.clamp(min=0).unsqueeze(-1).expand(-1, -1, candidates.shape[-1])
        items = candidates.gather(1, index)
        places = torch.arange(slate.shape[1], device=slate.device).clamp(max=self.config.longest - 1)
        items = items + self.position(places)
        return self.click(self.attention(items, written)).squeeze(-1)

    def loss(self, candidates: Tensor, slate: Tensor, clicks: Tensor) -> Tensor:
        """Mean log-loss over the positions of the lists. `clicks` is `[B, L] float32`."""
        written = slate != NO_ITEM
        losses = F.binary_cross_entropy_with_logits(self.logits(candidates, slate), clicks, reduction="none")
        return losses[written].mean()

    def reward(self, candidates: Tensor, slate: Tensor) -> Tensor:
        """Value of a slate: expected clicks, discounted by position as DCG does if so configured. `[B]`."""
        clicks = self.logits(candidates, slate).sigmoid() * (slate != NO_ITEM)
        if self.config.reward == "dcg":
            clicks = clicks / torch.log2(torch.arange(slate.shape[1], device=slate.device) + 2.0)
        return clicks.sum(-1)
