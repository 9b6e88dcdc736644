"""The weights of compiled code, read and checked: it indexes without bounds, and must not leave its arrays.

Every shape is stated here, for matrices `[in, out]`; `export` has where each comes from. Legend: D width,
R blocks of E columns of reasoning memory.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from bundle.arrays import Arrays, Named, read_arrays
from bundle.contract import FEEDBACK_POSITIVE, past
from bundle.features.assembly import FeatureAssembler
from bundle.manifest import BundleError, Manifest
from engine.native.kernel import DecodeWeights

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

AT_ONCE = 4
"""Rows that a product takes at once (`arithmetic.add_product`): what widths are a multiple of."""

FORMER_NAMES = {"token_bias": "gates_bias"}
"""Of the arrays in older bundles."""


def read_decode(path: Path, manifest: Manifest) -> DecodeWeights:
    """What `kernel.decode` reads.

    Raises:
        BundleError: a file that cannot be read, or an array that is missing or of another shape or type.
    """
    stored = read_arrays(path)
    names = [FORMER_NAMES[n] if FORMER_NAMES.get(n) in stored else n for n in DecodeWeights._fields]
    reasoning_steps = _axis(stored, "mix_bias", 0) if manifest.reasoning_budget else 0
    _check_width(path, manifest.width)
    shapes = _of_decode(manifest.width, reasoning_steps, bool(manifest.reasoning_budget))
    check(path, stored, dict(zip(names, shapes, strict=True)))
    return DecodeWeights(*(np.ascontiguousarray(stored[name]) for name in names))


def read_encode(path: Path, manifest: Manifest, features: FeatureAssembler) -> Arrays:
    """What `encoder.NativeEncoder` reads. Raises BundleError as `read_decode`."""
    stored, d = read_arrays(path), manifest.width
    blocks, columns = _reasoning_blocks(manifest, stored, "reasoning_weights", 0)
    expected = _of_candidates(stored, d, features) | {
        "pointer_weights": (d, d),
        "pointer_bias": (d,),
        "score_weights": (d,),
        "score_bias": (1,),
        "reasoning_weights": (blocks, d, columns),
        "reasoning_bias": (blocks, 1, columns),
        "start_weights": (2 * d, d),
        "start_bias": (d,),
    }
    if "base_weights" in stored:
        expected["base_weights"] = (len(features.candidate_columns),)
    check(path, stored, expected)
    _check_slot_fields(path, stored, "slot_fields", features)
    return stored


def read_evaluate(path: Path, features: FeatureAssembler) -> tuple[bool, list[Arrays]]:
    """What `evaluator.NativeEvaluator` reads: whether clicks are discounted, and the members' arrays. Raises
    BundleError as `read_decode`."""
    stored = read_arrays(path)
    check(path, stored, {"discounted": ()}, np.bool_)
    discounted = bool(stored.pop("discounted"))
    d, longest = _axis(stored, "0.score_weights", 0), max(1, _axis(stored, "0.place_vectors", 0))
    _check_width(path, d)
    members: list[Arrays] = []
    while not members or stored:
        prefix = f"{len(members)}."
        own = {name.removeprefix(prefix): stored[name] for name in stored if name.startswith(prefix)}
        expected = _of_candidates(own, d, features) | _of_reading(d, longest)
        check(path, stored, {prefix + name: shape for name, shape in expected.items()})
        _check_slot_fields(path, stored, f"{prefix}slot_fields", features)
        for name in own:
            del stored[prefix + name]
        members.append(own)
    return discounted, members


def memory_shapes(manifest: Manifest, memory: Named, batch: int, n: int) -> Shapes:
    """`MEMORY` and the decoder's first state as `kernel.decode` reads them: B requests of N candidates."""
    d, (blocks, columns) = manifest.width, _reasoning_blocks(manifest, memory, "reasoning_memory", 1)
    return {
        "memory": (batch, n, d),
        "user": (batch, d),
        "pointer_keys": (batch, n, d),
        "pointer_bias": (batch, n),
        "reasoning_memory": (batch, blocks, n, columns),
        past("readout"): (batch, d),
    }


def check(path: Path, arrays: Named, expected: Mapping[str, Shape], dtype: DTypeLike = np.float32) -> None:
    """Raises BundleError, which names file and array, where one is missing or of another shape or type."""
    dtype = np.dtype(dtype)
    for name, shape in expected.items():
        if name not in arrays:
            found = "none"
        elif arrays[name].shape == shape and arrays[name].dtype == dtype:
            continue
        else:
            found = f"{arrays[name].dtype} {list(arrays[name].shape)}"
        raise BundleError(f"{path}: {name}: expected {dtype} {list(shape)}, got {found}")


def _check_width(path: Path, width: int) -> None:
    if width % AT_ONCE or not width:
        raise BundleError(f"{path}: expected a width that is a multiple of {AT_ONCE}, got {width}")


def _check_slot_fields(path: Path, arrays: Named, name: str, features: FeatureAssembler) -> None:
    slots = len(features.slot_fields)
    check(path, arrays, {name: (slots,)}, np.int64)
    if not 0 <= arrays[name].min() <= arrays[name].max() < slots:
        raise BundleError(f"{path}: {name}: expected 0 to {slots - 1}, got {arrays[name].tolist()}")


def _axis(arrays: Named, name: str, axis: int) -> int:
    """Length of an axis that only the file says; 0 where it does not."""
    array = arrays.get(name)
    return array.shape[axis] if array is not None and array.ndim > axis else 0


def _reasoning_blocks(manifest: Manifest, arrays: Named, name: str, axis: int) -> tuple[int, int]:
    """R, which is along `axis`, and E: keys and values of each head; whatever they are where the policy was
    trained without reasoning."""
    blocks = _axis(arrays, name, axis)
    if not manifest.reasoning_budget:
        return blocks, _axis(arrays, name, -1)
    heads = max(1, blocks // 2)
    return 2 * heads, manifest.width // heads


def _of_decode(d: int, reasoning_steps: int, reasons: bool) -> tuple[Shape, ...]:
    """In the order of `DecodeWeights`."""
    gru = (d, 3 * d), (d, 3 * d), (3 * d,), (d,)
    if reasons:
        return (*gru, (d, d), (d,), (4 * d, 2 * d), (max(1, reasoning_steps), 2 * d), (2 * d, d), (d,))
    return (*gru, (0, 2 * d), (0,), (0, 2 * d), (1, 1), (0, 2 * d), (0,))


def _of_candidates(stored: Named, d: int, features: FeatureAssembler) -> Shapes:
    """What `encoder.CandidateEncoder` reads, but for `slot_fields`."""
    numeric, of_items = len(features.candidate_columns), len(features.item_columns)
    vocabulary, token_width = features.fitted.vocabulary_size, _axis(stored, "embedding", -1)
    return {
        "candidate_weights": (numeric, d),
        "candidate_bias": (1, d),
        "history_weights": (of_items, d),
        "feedback_bias": (FEEDBACK_POSITIVE + 1, d),
        "embedding": (vocabulary, token_width),
        "token_vectors": (vocabulary, d),
        "user_weights": (2 * d + features.user_columns + token_width, d),
        "user_bias": (d,),
        "key_weights": (d, d),
        "key_bias": (d,),
        "key_shift": (d,),
        "own_weights": (d, 2 * d),
        "recalled_weights": (d, 2 * d),
        "shared_weights": (2 * d, 2 * d),
        "mix_bias": (2 * d,),
        "out_weights": (2 * d, d),
        "out_bias": (d,),
        "norm_weight": (d,),
        "norm_bias": (d,),
    }


def _of_reading(d: int, longest: int) -> Shapes:
    """What `evaluator.ReadingWeights` has of a member, and what is known of candidates."""
    return {
        "known_weights": (d, 7 * d),
        "known_bias": (7 * d,),
        "state_weights": (d, 3 * d),
        "state_bias": (d,),
        "past_weights": (d, 2 * d),
        "past_bias": (d,),
        "first_neighbour": (d,),
        "seen_weights": (2 * d, d),
        "place_vectors": (longest, d),
        "score_weights": (d,),
        "score_bias": (1,),
    }
