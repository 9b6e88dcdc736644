"""The light encoder without ONNX Runtime: products by NumPy's BLAS, all between them in compiled functions.

As `model.encoder` without attention layers and `model.decoders.pointer` define it, with the weights of
`export.encode_weights`; the tests compare memories with the encoder graph's and whole lists with the step
graph's. Only tokens that are there are looked up, and what goes over candidates is done in one pass.

Legend: B requests, N candidates, H history events, X candidates or events, T token slots, D width.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bundle.arrays import Arrays, Named
from bundle.compiled import compiled
from bundle.contract import FEEDBACK_PADDING, FEEDBACK_POSITIVE, MASKED_LOGIT
from engine.native.arithmetic import add_weighted, exp

NORM_EPSILON = 1e-5  # PyTorch's

Floats = NDArray[np.float32]


class CandidateEncoder:
    """Candidates and the user as vectors. Limits the threads of BLAS in the whole process."""

    def __init__(self, weights: Arrays, threads: int) -> None:
        threadpool_limits(threads, user_api="blas")
        self._weights = SimpleNamespace(**weights)

    def encode(self, inputs: Named) -> tuple[Floats, Floats]:
        """`ENCODER_INPUTS`, padded at the end, to candidates `[B, N, D]` and users `[B, D]`."""
        w, mask = self._weights, inputs["candidate_mask"]
        feedback = inputs["history_feedback"]
        present, liked = feedback != FEEDBACK_PADDING, feedback == FEEDBACK_POSITIVE
        numbers, tokens = inputs["candidate_numeric"], inputs["candidate_tokens"]
        own = self._items(numbers @ w.candidate_weights, w.candidate_bias, np.zeros_like(mask), tokens)
        numbers, tokens = inputs["history_numeric"], inputs["history_tokens"]
        past = self._items(numbers @ w.history_weights, w.feedback_bias, feedback, tokens)
        seen = inputs["user_tokens"]
        about = [
            _mean(past, present),
            _mean(past, liked),
            inputs["user_numeric"],
            _mean(w.embedding[seen], seen > 0),
        ]
        user = np.maximum(np.concatenate(about, axis=1) @ w.user_weights + w.user_bias, np.float32(0.0))
        scores = own @ (past @ w.key_weights + w.key_bias).transpose(0, 2, 1)
        _attend(scores, past @ w.key_shift, present)
        shared = np.concatenate([user, _mean(own, mask)], axis=1) @ w.shared_weights + w.mix_bias
        mixed = own @ w.own_weights
        _add_and_rectify(mixed, (scores @ past) @ w.recalled_weights, shared)
        candidates = mixed @ w.out_weights
        _add_and_normalise(candidates, own, w.out_bias, w.norm_weight, w.norm_bias, mask)
        return candidates, user

    def _items(self, vectors: Floats, bias: Floats, kinds: NDArray[Any], tokens: NDArray[np.int32]) -> Floats:
        """What is known of items alone, from the product of their numbers, in place: `[B, X, D]`."""
        rows, width = kinds.size, vectors.shape[-1]
        _finish_items(
            vectors.reshape(rows, width),
            bias,
            kinds.reshape(rows).astype(np.int32, copy=False),
            tokens.reshape(rows, -1),
            self._weights.slot_fields,
            self._weights.token_vectors,
        )
        return vectors


class NativeEncoder(CandidateEncoder):
    """A policy's: memory, and where its decoder starts."""

    def run(self, inputs: Named) -> list[NDArray[Any]]:
        """`ENCODER_INPUTS`, padded at the end, to `MEMORY` and the decoder's first state `[B, D]`."""
        w, mask = self._weights, inputs["candidate_mask"]
        memory, user = self.encode(inputs)
        start = np.concatenate([user, _mean(memory, mask)], axis=1) @ w.start_weights + w.start_bias
        pointer_keys = memory @ w.pointer_weights
        pointer_keys += w.pointer_bias
        reasoning_memory = memory[:, None] @ w.reasoning_weights
        reasoning_memory += w.reasoning_bias
        pointer_bias = memory @ w.score_weights + w.score_bias
        if (base_weights := getattr(w, "base_weights", None)) is not None:  # starts from the initial score
            pointer_bias += inputs["candidate_numeric"] @ base_weights
        return [memory, user, pointer_keys, pointer_bias, reasoning_memory, np.tanh(start)]


def _mean(x: Floats, which: NDArray[np.bool_]) -> Floats:
    means = np.empty((x.shape[0], x.shape[2]), np.float32)
    _masked_mean(x, which, means)
    return means


@compiled
def _finish_items(vectors, bias, kinds, tokens, slot_fields, token_vectors):  # type: ignore[no-untyped-def]
    """`relu(vectors + bias[kinds] + tokens averaged within their field)`, in place: `[X, D]`, `[X, T]`."""
    rows, width = vectors.shape
    slots = tokens.shape[1]
    counts, shares, known = (
        np.empty(slots, np.float32),
        np.empty(slots, np.float32),
        np.empty(slots, np.int64),
    )
    for row in range(rows):
        vector = vectors[row]
        first = bias[kinds[row]]
        counts[:] = 0.0
        for slot in range(slots):
            if tokens[row, slot] > 0:
                counts[slot_fields[slot]] += np.float32(1.0)
        count = 0
        for slot in range(slots):
            if tokens[row, slot] > 0:
                shares[count] = np.float32(1.0) / counts[slot_fields[slot]]
                known[count] = tokens[row, slot]
                count += 1
        add_weighted(shares, known, count, token_vectors, vector)
        for i in range(width):
            vector[i] = max(vector[i] + first[i], np.float32(0.0))


@compiled
def _masked_mean(x, which, out):  # type: ignore[no-untyped-def]
    """Mean of `[B, X, D]` over X where `[B, X] bool` says so; zeros where it never does."""
    for row in range(x.shape[0]):
        mean = out[row]
        mean[:] = 0.0
        count = np.float32(0.0)
        for j in range(x.shape[1]):
            if which[row, j]:
                count += np.float32(1.0)
                vector = x[row, j]
                for i in range(mean.shape[0]):
                    mean[i] += vector[i]
        share = np.float32(1.0) / max(count, np.float32(1.0))
        for i in range(mean.shape[0]):
            mean[i] *= share


@compiled
def _attend(scores, shift, present):  # type: ignore[no-untyped-def]
    """Scores `[B, N, H]` to weights over the events that are present, in place; zeros where none is."""
    events = scores.shape[2]
    powers = np.empty(events, np.int32)
    twos = powers.view(np.float32)
    shown = np.empty(events, np.float32)
    for row in range(scores.shape[0]):
        for j in range(events):
            shown[j] = np.float32(1.0) if present[row, j] else np.float32(0.0)
        for item in range(scores.shape[1]):
            weights = scores[row, item]
            largest = np.float32(MASKED_LOGIT)
            for j in range(events):
                if shown[j] > 0:
                    weights[j] += shift[row, j]
                    largest = max(largest, weights[j])
            for j in range(events):
                weights[j] -= largest
            exp(weights, events, powers, twos)
            total = np.float32(0.0)
            for j in range(events):
                weights[j] *= shown[j]
                total += weights[j]
            share = np.float32(1.0) / total if total > 0 else np.float32(0.0)
            for j in range(events):
                weights[j] *= share


@compiled
def _add_and_rectify(mixed, recalled, shared):  # type: ignore[no-untyped-def]
    """`mixed = relu(mixed + recalled + shared)`: `[B, N, Y]` twice, `[B, Y]`."""
    for row in range(mixed.shape[0]):
        for item in range(mixed.shape[1]):
            x, y, z = mixed[row, item], recalled[row, item], shared[row]
            for i in range(x.shape[0]):
                x[i] = max(x[i] + y[i] + z[i], np.float32(0.0))


@compiled
def _add_and_normalise(memory, own, bias, weight, shift, mask):  # type: ignore[no-untyped-def]
    """`memory = layer norm of (memory + own + bias)`, zeros off the mask: `[B, N, D]` twice, `[D]` thrice."""
    width = memory.shape[2]
    for row in range(memory.shape[0]):
        for item in range(memory.shape[1]):
            x, y = memory[row, item], own[row, item]
            if not mask[row, item]:
                x[:] = 0.0
                continue
            mean, square = np.float32(0.0), np.float32(0.0)
            for i in range(width):
                x[i] += y[i] + bias[i]
                mean += x[i]
            mean /= np.float32(width)
            for i in range(width):
                x[i] -= mean
                square += x[i] * x[i]
            scale = np.float32(1.0) / np.sqrt(square / np.float32(width) + np.float32(NORM_EPSILON))
            for i in range(width):
                x[i] = x[i] * scale * weight[i] + shift[i]
