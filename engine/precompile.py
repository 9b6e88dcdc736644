"""Compiles all that serving runs, for the kinds of arrays it runs on; an image is built with it.

    python -m engine.precompile

A test serves a bundle and finds nothing compiled that is not listed here.
"""

from typing import Any

from numba import types

from bundle.features import derived, popularity
from constraints import packing, slates, tracking
from engine.native import encoder, evaluator, kernel

F1, F2, F3, F4 = (types.Array(types.float32, dimensions, "C") for dimensions in (1, 2, 3, 4))
D1, D2 = (types.Array(types.float64, dimensions, "C") for dimensions in (1, 2))
I1, I2, I3 = (types.Array(types.int64, dimensions, "C") for dimensions in (1, 2, 3))
TOKENS, BOOL1, BOOL2 = (
    types.Array(types.int32, 2, "C"),
    types.Array(types.bool_, 1, "C"),
    types.Array(types.bool_, 2, "C"),
)
COLUMN = types.Array(types.float32, 1, "A")

MEMORY = (F3, F2, F3, F2, F4)
CONTROLS = (I1, F1, I1, I1, F1, F1, F3)
WEIGHTS = (F2, F2, F1, F1, F2, F1, F2, F2, F2, F1)
RECORD = (I2, BOOL2, F2, F2, F2, F2, BOOL2)
READING = (F3, F2, F3, F2, F2, F3, F3, F2, F2)

SIGNATURES: dict[Any, tuple[Any, ...]] = {
    derived.look_up: (F2, TOKENS, I1, F2, TOKENS),
    derived.write_ages: (D2, I1, I1, BOOL1, D2, types.float64, F2),
    derived.share_below: (D1, COLUMN),
    derived.write_list_ranks: (F2, I1, types.int64),
    derived.write_affinities: (F2, F2, BOOL1, I1, I2, types.int64),
    derived.write_token_affinities: (
        *(F2, TOKENS, TOKENS, BOOL1, I1, I1),
        *(types.float64, types.int64, types.int64),
    ),
    popularity.read_past: (I1, D1, D1, I1, types.float64, I1, D1, D2),
    packing._pack: (BOOL2, I1, I1, types.int64, I1),
    slates.find_longest: (I1, types.int64, I1),
    slates.set_witness: (I1, I1),
    slates.write_in_order: (I1, I1, I1),
    tracking._room: (I2,),
    tracking._begin: (I2, I2),
    tracking._narrow: (I2, I2, BOOL2),
    tracking._place: (I2, I2, I1),
    encoder._finish_items: (F2, F2, types.Array(types.int32, 1, "C"), TOKENS, I1, F2),
    encoder._masked_mean: (F3, BOOL2, F2),
    encoder._attend: (F3, F2, BOOL2),
    encoder._add_and_rectify: (F3, F3, F2),
    encoder._add_and_normalise: (F3, F3, F1, F1, F1, BOOL2),
    evaluator._values: (
        *(types.boolean, F4, I1, I2, F1),
        types.Tuple(READING),  # type: ignore[no-untyped-call]
    ),
    kernel.decode: (
        *(types.int64, BOOL2, F2, I1, I2, I3, F3, I2, D1, D1),
        types.Tuple((*MEMORY, *CONTROLS, *WEIGHTS, *RECORD)),  # type: ignore[no-untyped-call]
    ),
}
"""What each function is called with; what those call by themselves is compiled with them."""


def precompile() -> None:
    for function, signature in SIGNATURES.items():
        function.compile(signature)


if __name__ == "__main__":
    precompile()
