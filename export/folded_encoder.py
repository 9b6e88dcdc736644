"""The encoder as it is exported: the same function in fewer and larger operations.

An item's columns, its tokens and its bias become one product, the bias as the weight of a column that says
that there is an item; the history's query projection goes into its keys, and scales into what they multiply.
What adds the same to all scores of a softmax is left out. Relies on padding being 0, as
`bundle.features.assembly.collate` has it, and leaves the memory of padded candidates, which nobody reads, as
it comes. Whole-rollout parity guards all of it.

Legend: B requests, N candidates, H history events, T token slots, D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.contract import MASKED_LOGIT
from model.encoder import Encoder, Memory, masked_mean


class FoldedEncoder(nn.Module):
    """In the place of a trained `model.encoder.Encoder`, without dropout and gradients."""

    candidate_weights: Tensor  # [numeric + token width + 1, D]
    event_weights: Tensor  # [item numeric + token width + 2, D]
    key_weights: Tensor  # [D, D]
    key_shift: Tensor  # [1, D], what an event's own key adds to all its scores
    pointer_weights: Tensor  # [D, D]
    pointer_shift: Tensor  # [D]
    feedback: Tensor  # [3, 2], by feedback: 1 if there is an event, 1 if it is positive
    absence: Tensor  # [3, 1], by feedback: what is added to an event's scores

    @torch.no_grad()
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        item, query, key = encoder.item, encoder.history_query, encoder.history_key
        numbers, tokens, bias = item.numbers.weight.T, item.tokens.weight.T, item.numbers.bias
        candidate = encoder.candidate.weight.T.clone()
        candidate[: len(numbers)] += numbers
        _, impression, positive = encoder.feedback.weight
        scale = math.sqrt(encoder.pointer_keys.in_features)
        folded = {
            "candidate_weights": torch.cat([candidate, tokens, (encoder.candidate.bias + bias)[None]]),
            "event_weights": torch.cat(
                [numbers, tokens, (bias + impression)[None], (positive - impression)[None]]
            ),
            "key_weights": key.weight.T @ query.weight / scale,
            "key_shift": (query.bias @ key.weight / scale)[None],
            "pointer_weights": encoder.pointer_keys.weight.T / scale,
            "pointer_shift": encoder.pointer_keys.bias / scale,
            "feedback": torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]),
            "absence": torch.tensor([[MASKED_LOGIT], [0.0], [0.0]]),
        }
        for name, tensor in folded.items():
            self.register_buffer(name, tensor.contiguous())

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
        encoder, pooled = self.encoder, self.encoder.item.pooled
        there = candidate_mask.float()
        own = torch.cat([candidate_numeric, pooled(candidate_tokens), there.unsqueeze(-1)], dim=-1)
        own = F.relu(own @ self.candidate_weights)  # [B, N, D]
        kinds = F.embedding(history_feedback, self.feedback)  # [B, H, 2]
        past = torch.cat([history_numeric, pooled(history_tokens), kinds], dim=-1)
        past = F.relu(past @ self.event_weights)  # [B, H, D], 0 where there is no event
        means = (kinds.transpose(1, 2) @ past) / kinds.sum(1).clamp(min=1.0).unsqueeze(-1)  # [B, 2, D]
        user = encoder.user(torch.cat([means.flatten(1), user_numeric, self._mean(user_tokens)], dim=-1))
        shift = self.key_shift @ past.transpose(1, 2) + F.embedding(history_feedback, self.absence).mT
        scores = own @ (past @ self.key_weights).transpose(1, 2) + shift  # [B, N, H]
        recalled = scores.softmax(-1) @ past
        others = own.sum(1) / there.sum(1, keepdim=True).clamp(min=1.0)
        memory = own + encoder.mixed(own, recalled, user, others)
        for layer in encoder.attention:
            memory = layer(memory, candidate_mask)
        memory = encoder.norm(memory)
        return Memory(
            candidates=memory,
            user=user,
            pointer_keys=memory @ self.pointer_weights + self.pointer_shift,
            pointer_bias=encoder.first_logits(memory, candidate_numeric),
            reasoning_memory=encoder.for_reasoning(memory),
        )

    def _mean(self, tokens: Tensor) -> Tensor:
        """Mean embedding of a user's tokens, `[B, token width]`; padding's embedding is 0."""
        vectors = self.encoder.item.embedding(tokens)
        return vectors[:, 0] if tokens.shape[1] == 1 else masked_mean(vectors, (tokens > 0).float())
