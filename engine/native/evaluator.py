"""The evaluator without ONNX Runtime: what whole lists are worth, in one compiled function.

As `model.evaluator` defines it, with the weights of `export.evaluate_weights`; the tests compare values with
the graph's. What is known of a candidate wherever it stands is computed once a request.

Legend: B requests, R lists, N candidates, L places, D width, E members, C columns known of a candidate.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Named
from bundle.compiled import compiled
from bundle.features.assembly import FeatureAssembler
from engine.native.arithmetic import add_product, advance
from engine.native.encoder import CandidateEncoder
from engine.native.weights import read_evaluate


class ReadingWeights(NamedTuple):
    """Of each member, float32, matrices `[in, out]`."""

    state_weights: NDArray[np.float32]  # [E, D, 3 D]
    state_bias: NDArray[np.float32]  # [E, D], of the new state
    past_weights: NDArray[np.float32]  # [E, D, 2 D], of what was read, to be multiplied, and by itself
    past_bias: NDArray[np.float32]  # [E, D]
    first_neighbour: NDArray[np.float32]  # [E, D]
    seen_weights: NDArray[np.float32]  # [E, 2 D, D], of the products with the past and with the one before
    place_vectors: NDArray[np.float32]  # [E, longest, D]
    score_weights: NDArray[np.float32]  # [E, D]
    score_bias: NDArray[np.float32]  # [E, 1]


class NativeEvaluator:
    """Of a bundle that has its weights."""

    def __init__(self, weights: Path, features: FeatureAssembler, threads: int) -> None:
        """Raises BundleError when the weights do not fit each other or the features."""
        self._discounted, self._members = read_evaluate(weights, features)
        self._encoders = [CandidateEncoder(member, threads) for member in self._members]
        stacked = (np.stack([member[name] for member in self._members]) for name in ReadingWeights._fields)
        self._reading = ReadingWeights(*(np.ascontiguousarray(array) for array in stacked))

    def encode(self, inputs: Named) -> NDArray[np.float32]:
        """`ENCODER_INPUTS` to what is known of candidates, `[E, B, N, C]`."""
        known = []
        for encoder, member in zip(self._encoders, self._members, strict=True):
            columns = encoder.encode(inputs)[0] @ member["known_weights"]
            columns += member["known_bias"]
            known.append(columns)
        return np.stack(known)

    def values(self, encoded: Any, rows: NDArray[np.int64], slates: NDArray[np.int64]) -> NDArray[np.float32]:
        values = np.empty(len(rows), np.float32)
        _values(self._discounted, encoded, rows, slates, values, *self._reading)
        return values


@compiled
def _values(discounted, known, rows, slates, values, *arrays):  # type: ignore[no-untyped-def]
    """Mean over members of the clicks that are expected of each list, at what they are worth.

    Args:
        discounted: whether a click is worth less the lower it is, as in DCG.
        known: `[E, B, N, C]`, by D columns: what the GRU's gates read (three), with the past, with the one
            before, as the one before, by itself.
        rows: `[R]`, whose candidates each list has.
        slates: `[R, L]`, indices, NO_ITEM past the end.
        values: `[R]`, to be written.
        arrays: those of `ReadingWeights`.
    """
    weights = ReadingWeights(*arrays)
    members, width = known.shape[0], known.shape[3] // 7
    one, share = np.float32(1.0), np.float32(1.0 / members)
    longest = weights.place_vectors.shape[1]
    powers = np.empty(2 * width, np.int32)
    twos = powers.view(np.float32)
    from_token, from_state = np.empty(3 * width, np.float32), np.empty(3 * width, np.float32)
    new, hidden = np.empty(width, np.float32), np.empty(width, np.float32)
    past, seen, active = (
        np.empty(2 * width, np.float32),
        np.empty(2 * width, np.float32),
        np.empty(width, np.float32),
    )
    for row in range(rows.shape[0]):
        value = np.float32(0.0)
        for member in range(members):
            hidden[:] = 0.0
            neighbour = weights.first_neighbour[member]
            for place in range(slates.shape[1]):
                item = slates[row, place]
                if item < 0:
                    break
                own = known[member, rows[row], item]
                past[:width] = weights.past_bias[member]
                past[width:] = 0.0
                add_product(hidden, weights.past_weights[member], past)
                placed = weights.place_vectors[member, min(place, longest - 1)]
                for i in range(width):
                    seen[i] = own[3 * width + i] * past[i]
                    seen[width + i] = own[4 * width + i] * neighbour[i]
                    active[i] = own[6 * width + i] + past[width + i] + placed[i]
                add_product(seen, weights.seen_weights[member], active)
                odds = weights.score_bias[member, 0]
                for i in range(width):
                    odds += max(active[i], np.float32(0.0)) * weights.score_weights[member, i]
                click = one / (one + np.float32(math.exp(-odds)))
                if discounted:
                    click /= np.float32(math.log2(place + 2.0))
                value += click
                from_token[:] = own[: 3 * width]
                from_state[: 2 * width] = 0.0
                from_state[2 * width :] = weights.state_bias[member]
                add_product(hidden, weights.state_weights[member], from_state)
                advance(hidden, from_token, from_state, new, powers, twos)
                neighbour = own[5 * width : 6 * width]
        values[row] = value * share
