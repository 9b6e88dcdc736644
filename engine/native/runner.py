"""The encoder, then all micro-steps of a batch in one compiled function.

The same inputs and records as the graphs' runners. Knows bundles with a GRU decoder and a deep reasoner, or
none; a light encoder is compiled too, any other runs on ONNX Runtime.
Legend: B requests, D width, M micro-steps.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Arrays, Named
from bundle.contract import CONTROLS, ENCODER_INPUTS, FEEDBACK_PADDING, MEMORY, RECORD, past
from bundle.manifest import DECODE, ENCODE, ENCODER, BundleError, Manifest
from engine.native.encoder import NativeEncoder
from engine.native.kernel import UNCERTAINTIES, DecodeWeights, decode
from engine.sessions import PROVIDERS, SessionSettings, open_session

FORMER_NAMES = {"token_bias": "gates_bias"}
"""Of the arrays in older bundles."""

LIKE = 0.75
"""Lists are encoded together if the shortest has this share of the longest's candidates."""

Rows = slice | NDArray[np.intp]


def decodes_natively(manifest: Manifest) -> bool:
    """Whether the bundle has what native decoding needs."""
    return DECODE in manifest.hashes


class NativeRunner:
    """Compiles on the first batch, which is the warm-up's."""

    def __init__(self, bundle: Path, manifest: Manifest, settings: SessionSettings) -> None:
        """Raises BundleError when this bundle cannot be decoded natively."""
        if not decodes_natively(manifest):
            raise BundleError(
                f"{bundle}: cannot be decoded natively: the bundle has no {DECODE}; native decoding is for a "
                "GRU decoder with a deep reasoner or none"
            )
        self._encode: Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]
        self._decode, self._kind = decode, UNCERTAINTIES[manifest.gate.kind]
        if ENCODE in manifest.hashes and settings.provider == "cpu":
            self._encode = NativeEncoder(bundle / ENCODE, settings.intra_op_threads).run
            self.provider = PROVIDERS["cpu"]
        else:
            session = open_session(bundle / ENCODER, settings)
            self._encode = partial(session.run, [*(spec.name for spec in MEMORY), past("readout")])
            self.provider = session.get_providers()[0]
        with np.load(bundle / DECODE) as stored:
            names = (name if name in stored else FORMER_NAMES[name] for name in DecodeWeights._fields)
            self._weights = DecodeWeights(*(np.ascontiguousarray(stored[name]) for name in names))

    def run(self, inputs: Named, controls: Named, deadlines: NDArray[np.float64] | None = None) -> Arrays:
        length, budget = controls["slate_length"], controls["reasoning_budget"]
        most = int((length * (1 + budget)).max())
        records = [np.empty((len(length), most), spec.dtype) for spec in RECORD]
        steps = 0
        for rows in alike(inputs["candidate_mask"].sum(axis=1)):
            some = _cut({**inputs, **controls}, rows)
            written = tuple(np.empty((len(some["candidate_mask"]), most), spec.dtype) for spec in RECORD)
            *memory, start = self._encode({spec.name: some[spec.name] for spec in ENCODER_INPUTS})
            taken = self._decode(
                self._kind,
                some["candidate_mask"],
                tuple(memory),
                start,
                tuple(some[spec.name] for spec in CONTROLS),
                tuple(self._weights),
                written,
            )
            steps = max(steps, taken)
            for record, of_rows in zip(records, written, strict=True):
                record[rows] = of_rows
        return {spec.name: record[:, :steps].T for spec, record in zip(RECORD, records, strict=True)}


def alike(lengths: NDArray[np.int64]) -> Iterator[Rows]:
    """Rows of a batch in groups of like lengths, `[B]`, so that little is computed for padding."""
    if lengths.min() >= LIKE * lengths.max():
        yield slice(None)  # which copies nothing
        return
    by_length = lengths.argsort()[::-1]
    start = 0
    while start < len(lengths):
        stop = int((lengths >= LIKE * lengths[by_length[start]]).sum())  # those before `start` are among them
        yield by_length[start:stop]
        start = stop


def _cut(arrays: Named, rows: Rows) -> Named:
    """Some rows of a batch's inputs and controls, without the padding that all of them have."""
    if isinstance(rows, slice):
        return arrays
    most = {
        "N": int(arrays["candidate_mask"][rows].sum(axis=1).max()),
        "H": max(1, int((arrays["history_feedback"][rows] != FEEDBACK_PADDING).sum(axis=1).max())),
    }
    return {
        spec.name: np.ascontiguousarray(
            arrays[spec.name][(rows, *(slice(most.get(str(axis))) for axis in spec.axes[1:]))]
        )
        for spec in (*ENCODER_INPUTS, *CONTROLS)
    }
