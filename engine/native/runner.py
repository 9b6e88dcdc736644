"""The encoder, then all micro-steps of a batch in one compiled function.

The same inputs and records as the graphs' runners. Knows bundles with a GRU decoder and a deep reasoner, or
none; a light encoder is compiled too, any other runs on ONNX Runtime.
Legend: B requests, D width, M micro-steps.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Arrays, Named, read_arrays
from bundle.contract import CONTROLS, ENCODER_INPUTS, FEEDBACK_PADDING, MEMORY, RECORD, TensorSpec, past
from bundle.manifest import DECODE, ENCODE, ENCODER, BundleError, Manifest
from engine.generation import Times
from engine.native.encoder import NativeEncoder
from engine.native.kernel import UNCERTAINTIES, DecodeWeights, decode
from engine.sessions import PROVIDERS, open_session
from engine.settings import Decoding, SessionSettings

FORMER_NAMES = {"token_bias": "gates_bias"}
"""Of the arrays in older bundles."""

LIKE = 0.75
"""Lists are written together if the shortest has this share of the longest's candidates."""

CANDIDATES = 3200
"""Most candidates of lists that are written together."""

Record = tuple[NDArray[Any], ...]
"""Arrays of the contract's `RECORD`, in order, `[B, M]` each."""


def decodes_natively(manifest: Manifest) -> bool:
    """Whether the bundle has what native decoding needs."""
    return DECODE in manifest.hashes


class NativeRunner:
    """Compiles on the first batch, which is the warm-up's."""

    decoding: Decoding = "native"

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
        stored = read_arrays(bundle / DECODE)
        names = [name if name in stored else FORMER_NAMES.get(name, name) for name in DecodeWeights._fields]
        if lacking := [name for name in names if name not in stored]:
            raise BundleError(f"{bundle / DECODE}: {', '.join(lacking)} missing")
        self._weights = DecodeWeights(*(np.ascontiguousarray(stored[name]) for name in names))

    def run(self, inputs: Named, controls: Named, times: Times | None = None) -> Arrays:
        times = times or Times.unlimited(len(inputs["candidate_mask"]))
        most = int((controls["slate_length"] * (1 + controls["reasoning_budget"])).max())
        groups = alike(inputs["candidate_mask"])
        if len(groups) == 1:
            record, steps = self._write(inputs, controls, times, most)
        else:
            record, steps = _room(len(inputs["candidate_mask"]), most), 0
            for rows in groups:
                of_rows = Times(*(array[rows] for array in times))
                part, taken = self._write(*_cut(inputs, controls, rows), of_rows, most)
                steps = max(steps, taken)
                for whole, array in zip(record, part, strict=True):
                    whole[rows] = array
        return {spec.name: array[:, :steps].T for spec, array in zip(RECORD, record, strict=True)}

    def _write(self, inputs: Named, controls: Named, times: Times, most: int) -> tuple[Record, int]:
        """The record of some rows, each `[B, most]`, and the micro-steps of the longest."""
        record = _room(len(inputs["candidate_mask"]), most)
        *memory, start = self._encode(inputs)
        steps = self._decode(
            self._kind,
            inputs["candidate_mask"],
            start,
            *times,
            *memory,
            *[controls[spec.name] for spec in CONTROLS],
            *self._weights,
            *record,
        )
        return record, steps


def alike(mask: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Rows of `[B, N]` in groups of like lengths that are not too large, so that little is computed for
    padding and little memory is needed on the way."""
    if len(mask) == 1:
        return [np.zeros(1, np.intp)]
    lengths = mask.sum(axis=1)
    by_length = lengths.argsort()[::-1]
    groups, start = [], 0
    while start < len(lengths):
        longest = max(1, int(lengths[by_length[start]]))
        like = int((lengths >= LIKE * longest).sum())  # those before `start` are among them
        stop = min(like, start + max(1, CANDIDATES // longest))
        groups.append(by_length[start:stop])
        start = stop
    return groups


def _room(rows: int, micro_steps: int) -> Record:
    return tuple([np.empty((rows, micro_steps), spec.dtype) for spec in RECORD])


def _cut(inputs: Named, controls: Named, rows: NDArray[np.intp]) -> tuple[Named, Named]:
    """Some rows of a batch's inputs and controls, without the padding that all of them have."""
    most = {
        "N": int(inputs["candidate_mask"][rows].sum(axis=1).max()),
        "H": max(1, int((inputs["history_feedback"][rows] != FEEDBACK_PADDING).sum(axis=1).max())),
    }

    def cut(arrays: Named, specs: Sequence[TensorSpec]) -> Named:
        return {
            spec.name: np.ascontiguousarray(
                arrays[spec.name][(rows, *(slice(most.get(str(axis))) for axis in spec.axes[1:]))]
            )
            for spec in specs
        }

    return cut(inputs, ENCODER_INPUTS), cut(controls, CONTROLS)
