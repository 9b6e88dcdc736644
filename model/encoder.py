"""Candidates and user context to memory: run once a request.

Light by default: each candidate sees its own features, the user, the user's history (one attention) and
the mean of the other candidates. Attention over candidates by config. Knows nothing of decoding,
but writes the projections that every micro-step reads, so that they are computed once.

Legend: B requests, N candidates, H history events, T token slots, D width,
R blocks of E columns of reasoning memory.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.contract import FEEDBACK_PADDING, FEEDBACK_POSITIVE, MASKED_LOGIT
from model.attention import InducingAttention, SelfAttention
from model.config import EncoderConfig


class FeatureSizes(NamedTuple):
    """Sizes of the encoder's inputs. `slot_fields` is the field index of each token slot of an item,
    `initial_score` the numeric column of the initial score, which its list rank follows, if there is one."""

    numeric: int
    item_numeric: int
    slot_fields: tuple[int, ...]
    user_numeric: int
    user_slots: int
    vocabulary: int
    initial_score: int | None = None


BASE_WEIGHTS = (1.0, 0.01)
"""Of the initial score and its list rank in a base logit, before any training. The score alone, which is
clipped and rounded, would leave candidates level that are not; the rank only tells those apart."""


class Memory(NamedTuple):
    """What the encoder writes: the tensors of `bundle.contract.MEMORY` in their order and with their axes.

    They have its names too, but for `candidates`, which crosses to the graphs as `memory`.
    """

    candidates: Tensor  # [B, N, D], as the decoder and the reasoner see them
    user: Tensor  # [B, D]
    pointer_keys: Tensor  # [B, N, D]
    pointer_bias: Tensor  # [B, N]
    reasoning_memory: Tensor  # [B, R, N, E]

    def repeat(self, times: int) -> "Memory":
        """Each request `times` times in a row, `[B * times, ...]`, for rollouts in groups."""
        return Memory(*(tensor.repeat_interleave(times, dim=0) for tensor in self))


class ItemTower(nn.Module):
    """What is known of an item alone, for candidates and history events.

    Token slots are averaged within their field, then added up over fields.
    """

    same_field: Tensor

    def __init__(self, numeric: int, sizes: FeatureSizes, width: int, token_width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocabulary, token_width, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.02)
        with torch.no_grad():
            self.embedding.weight[0] = 0.0
        fields = torch.tensor(sizes.slot_fields)
        self.register_buffer("same_field", (fields[:, None] == fields[None, :]).float(), persistent=False)
        self.numbers = nn.Linear(numeric, width)
        self.tokens = nn.Linear(token_width, width, bias=False)

    def forward(self, numeric: Tensor, tokens: Tensor) -> Tensor:
        """`[B, X, numeric] float32`, `[B, X, T] int32` -> `[B, X, D]`."""
        return self.numbers(numeric) + self.tokens(self.pooled(tokens))

    def pooled(self, tokens: Tensor) -> Tensor:
        """Embeddings, averaged within fields and added up: `[B, X, T] int32` -> `[B, X, token width]`."""
        known = (tokens > 0).float()
        weight = known / (known @ self.same_field).clamp(min=1.0)
        return (weight.unsqueeze(-2) @ self.embedding(tokens)).squeeze(-2)


class Encoder(nn.Module):
    """Writes the memory. `reasoning_blocks` is (R, E), as the reasoner wants it.

    With `base_score` the pointer starts from the initial score: what is learned on top of it begins at zero.

    Raises:
        ValueError: a base score is asked for, but the features have no initial score.
    """

    def __init__(
        self,
        sizes: FeatureSizes,
        width: int,
        reasoning_blocks: tuple[int, int],
        config: EncoderConfig,
        base_score: bool = False,
    ) -> None:
        super().__init__()
        self.reasoning_blocks = reasoning_blocks
        self.item = ItemTower(sizes.item_numeric, sizes, width, config.token_width)
        self.candidate = nn.Linear(sizes.numeric, width)
        self.feedback = nn.Embedding(3, width, padding_idx=FEEDBACK_PADDING)
        self.user = nn.Sequential(
            nn.Linear(2 * width + sizes.user_numeric + config.token_width, width), nn.ReLU()
        )
        self.history_query, self.history_key = nn.Linear(width, width), nn.Linear(width, width)
        self.mix = nn.Sequential(
            nn.Linear(4 * width, 2 * width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(2 * width, width),
        )
        self.attention = nn.ModuleList(
            SelfAttention(width, config.heads, config.dropout)
            if config.attention == "full"
            else InducingAttention(width, config.inducing_points, config.dropout)
            for _ in range(config.self_attention_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.pointer_keys = nn.Linear(width, width)
        self.pointer_bias = nn.Linear(width, 1)
        self.reasoning_memory = nn.Linear(width, math.prod(reasoning_blocks))
        self.base_weights: nn.Parameter | None = None  # [2]
        if base_score:
            if sizes.initial_score is None:
                raise ValueError("policy.base_score needs the initial score: set features.initial_score")
            self.base_columns = slice(sizes.initial_score, sizes.initial_score + len(BASE_WEIGHTS))
            self.base_weights = nn.Parameter(torch.tensor(BASE_WEIGHTS))
            for learned in (*self.pointer_keys.parameters(), *self.pointer_bias.parameters()):
                nn.init.zeros_(learned)

    def forward(
        self,
        candidate_numeric: Tensor,
        candidate_tokens: Tensor,
        candidate_mask: Tensor,
        user_numeric: Tensor,
        user_tokens: Tensor,
        history_numeric: Tensor,
        history_tokens: Tensor,
        history_feedback: Tensor,
    ) -> Memory:
        """Axes as in `bundle.contract.ENCODER_INPUTS`."""
        item_columns = history_numeric.shape[-1]
        own = self.item(candidate_numeric[..., :item_columns], candidate_tokens)
        own = self.dropout(F.relu(own + self.candidate(candidate_numeric)))  # [B, N, D]
        past = F.relu(self.item(history_numeric, history_tokens) + self.feedback(history_feedback))
        present = (history_feedback != FEEDBACK_PADDING).float()  # [B, H]
        liked = (history_feedback == FEEDBACK_POSITIVE).float()
        user = self.user(
            torch.cat(
                [
                    masked_mean(past, present),
                    masked_mean(past, liked),
                    user_numeric,
                    masked_mean(self.item.embedding(user_tokens), (user_tokens > 0).float()),
                ],
                dim=-1,
            )
        )
        recalled = self._recall(own, past, present)
        others = masked_mean(own, candidate_mask.float())
        memory = own + self.mixed(own, recalled, user, others)
        for layer in self.attention:
            memory = layer(memory, candidate_mask)
        memory = self.norm(memory) * candidate_mask.unsqueeze(-1)
        return Memory(
            candidates=memory,
            user=user,
            pointer_keys=self.pointer_keys(memory) / math.sqrt(memory.shape[-1]),
            pointer_bias=self.first_logits(memory, candidate_numeric),
            reasoning_memory=self.for_reasoning(memory),
        )

    def first_logits(self, memory: Tensor, candidate_numeric: Tensor) -> Tensor:
        """What a candidate scores whatever was chosen before. `[B, N, D]`, `[B, N, numeric]` -> `[B, N]`."""
        learned = self.pointer_bias(memory).squeeze(-1)
        if self.base_weights is None:
            return learned
        return learned + candidate_numeric[..., self.base_columns] @ self.base_weights

    def for_reasoning(self, memory: Tensor) -> Tensor:
        """`[B, N, D]` -> `[B, R, N, E]`."""
        return self.reasoning_memory(memory).unflatten(-1, self.reasoning_blocks).transpose(1, 2).contiguous()

    def mixed(self, own: Tensor, recalled: Tensor, user: Tensor, others: Tensor) -> Tensor:
        """`mix` of the four side by side; what all candidates share is multiplied once. `[B, N, D]`."""
        first, columns = self.mix[0], 2 * own.shape[-1]
        assert isinstance(first, nn.Linear)
        each = F.linear(torch.cat([own, recalled], dim=-1), first.weight[:, :columns])
        same = F.linear(torch.cat([user, others], dim=-1), first.weight[:, columns:], first.bias)
        return self.mix[1:](each + same.unsqueeze(1))

    def _recall(self, own: Tensor, past: Tensor, present: Tensor) -> Tensor:
        """Attention of each candidate over the history; zeros for a cold user. `[B, N, D]`."""
        scores = self.history_query(own) @ self.history_key(past).transpose(1, 2)
        scores = scores / math.sqrt(own.shape[-1])
        scores = scores.masked_fill(present.unsqueeze(1) == 0, MASKED_LOGIT)
        return (scores.softmax(-1) * present.unsqueeze(1)) @ past


def masked_mean(x: Tensor, weight: Tensor) -> Tensor:
    """Mean of `[B, X, D]` over X where `[B, X]` is 1; zeros where none is."""
    return (weight.unsqueeze(1) @ x).squeeze(1) / weight.sum(1, keepdim=True).clamp(min=1.0)
