"""The weights of light encoders, folded for native encoding by `engine.native.encoder`.

Folded are: the item tower's numbers into the candidate's, the token projection into the embedding, the
history's query projection into its keys, the scales of attention and pointer into what they multiply, and
biases that are only ever added to each other. Matrices are transposed, `[in, out]`. Whole-rollout parity
guards all of it. Legend: D width.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.decoders.gru import GRUDecoder
from model.encoder import Encoder
from model.policy import Policy


@torch.no_grad()
def encode_weights(policy: Policy) -> dict[str, NDArray[Any]] | None:
    """Arrays by name, or None where native encoding does not know the encoder. The decoder is a GRU."""
    shared = candidate_weights(policy.encoder)
    if shared is None:
        return None
    encoder, decoder, scale = policy.encoder, policy.decoder, math.sqrt(policy.config.width)
    assert isinstance(decoder, GRUDecoder)
    blocks, columns = encoder.reasoning_blocks
    weights = {
        "pointer_weights": encoder.pointer_keys.weight.T / scale,  # [D, D]
        "pointer_bias": encoder.pointer_keys.bias / scale,
        "score_weights": encoder.pointer_bias.weight[0],  # [D]
        "score_bias": encoder.pointer_bias.bias,  # [1]
        "reasoning_weights": encoder.reasoning_memory.weight.unflatten(0, (blocks, columns)).mT,  # [R, D, E]
        "reasoning_bias": encoder.reasoning_memory.bias.view(blocks, 1, columns),  # [R, 1, E]
        "start_weights": decoder.start.weight.T,  # [2 D, D]
        "start_bias": decoder.start.bias,
    }
    if encoder.base_weights is not None:
        base = torch.zeros(encoder.candidate.in_features)
        base[encoder.base_columns] = encoder.base_weights
        weights["base_weights"] = base  # [numeric]
    return {**shared, **as_arrays(weights)}


@torch.no_grad()
def candidate_weights(encoder: Encoder) -> dict[str, NDArray[Any]] | None:
    """What the candidates' vectors and the user's come from: a policy's encoder and an evaluator's alike."""
    if len(encoder.attention):
        return None
    item, width = encoder.item, encoder.norm.normalized_shape[0]
    scale = math.sqrt(width)
    candidate = encoder.candidate.weight.T.clone()
    candidate[: item.numbers.in_features] += item.numbers.weight.T
    query, key = encoder.history_query, encoder.history_key
    first, second = encoder.mix[0], encoder.mix[3]
    assert isinstance(first, nn.Linear)
    weights: dict[str, Any] = {
        "candidate_weights": candidate,  # [numeric, D]
        "candidate_bias": (encoder.candidate.bias + item.numbers.bias)[None],  # [1, D]
        "history_weights": item.numbers.weight.T,  # [item numeric, D]
        "feedback_bias": encoder.feedback.weight + item.numbers.bias,  # [feedback, D]
        "embedding": item.embedding.weight,  # [vocabulary, token width]
        "token_vectors": item.embedding.weight @ item.tokens.weight.T,  # [vocabulary, D]
        "user_weights": encoder.user[0].weight.T,  # [2 D + user numeric + token width, D]
        "user_bias": encoder.user[0].bias,
        "key_weights": key.weight.T @ query.weight / scale,  # [D, D]
        "key_bias": key.bias @ query.weight / scale,
        "key_shift": key.weight.T @ query.bias / scale,  # [D], what an event's own key adds to all its scores
        "own_weights": first.weight[:, :width].T,  # [D, 2 D]
        "recalled_weights": first.weight[:, width : 2 * width].T,  # [D, 2 D]
        "shared_weights": first.weight[:, 2 * width :].T,  # [2 D, 2 D]
        "mix_bias": first.bias,
        "out_weights": second.weight.T,  # [2 D, D]
        "out_bias": second.bias,
        "norm_weight": encoder.norm.weight,
        "norm_bias": encoder.norm.bias,
    }
    same_field = item.same_field.numpy()
    first_slots = same_field.argmax(axis=1).astype(np.int64)  # of each slot's field
    return {**as_arrays(weights), "slot_fields": first_slots}


def as_arrays(weights: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Tensors as arrays in rows."""
    return {name: np.ascontiguousarray(tensor.numpy(), np.float32) for name, tensor in weights.items()}
