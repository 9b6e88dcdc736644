"""MIR: the candidates as a set meet the user's history as a list (Xi et al. 2022, "Multi-Level
Interaction Reranking with User Behavior History", arXiv 2204.09370).

Keeps the item-level set-to-list attention, in both directions, between candidates that saw each other
and a history that an LSTM read; departs in leaving the feature-level interactions out.
Legend: B lists, N candidates, H history events, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.contract import FEEDBACK_PADDING, MASKED_LOGIT
from model.attention import SelfAttention
from model.baselines.recipe import WIDTH, Orders, Scorer, rank_by_score
from model.baselines.task import Task
from model.encoder import FeatureSizes, masked_mean
from model.training.examples import Batch


class MIR(Scorer):
    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__(sizes)
        self.within_set = SelfAttention(WIDTH, 2, 0.2)
        self.within_list = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.affinity = nn.Linear(WIDTH, WIDTH, bias=False)
        self.score = nn.Sequential(
            nn.Linear(4 * WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.2), nn.Linear(WIDTH, 1)
        )

    def forward(self, batch: Batch) -> Tensor:
        items = self.within_set(self.encoder(**batch.inputs).candidates, batch.mask)  # [B, N, D]
        feedback = batch.inputs["history_feedback"]
        there = (feedback != FEEDBACK_PADDING).float()  # [B, H]
        past = self.encoder.item(batch.inputs["history_numeric"], batch.inputs["history_tokens"])
        past = F.relu(past + self.encoder.feedback(feedback)) * there.unsqueeze(-1)
        if past.shape[1]:
            past, _ = self.within_list(past)  # [B, H, D]
        affinity = self.affinity(items) @ past.transpose(1, 2) / WIDTH**0.5  # [B, N, H]
        absent = there.unsqueeze(1) == 0
        seen_by_items = affinity.masked_fill(absent, MASKED_LOGIT).softmax(2) * there.unsqueeze(1)
        seen_by_past = affinity.masked_fill(~batch.mask.unsqueeze(2), MASKED_LOGIT).softmax(1)
        recalled = seen_by_items @ past  # [B, N, D]
        wanted = masked_mean(seen_by_past.transpose(1, 2) @ items, there)  # [B, D]
        wanted = wanted.unsqueeze(1).expand_as(items)
        return self.score(torch.cat([items, recalled, wanted, items * recalled], dim=-1)).squeeze(-1)


def rank(task: Task) -> Orders:
    """Candidate indices by score."""
    return rank_by_score(task, MIR)
