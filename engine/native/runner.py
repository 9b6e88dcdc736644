"""The encoder, then all micro-steps of a batch in one compiled function.

The same inputs and records as the graphs' runners. Knows bundles with a GRU decoder and a deep reasoner, or
none; a light encoder is compiled too, any other runs on ONNX Runtime.
Legend: B requests, R slates, D width, M micro-steps, A alternatives.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Arrays, Named
from bundle.contract import CONTROLS, ENCODER_INPUTS, FEEDBACK_PADDING, MEMORY, RECORD, TensorSpec, past
from bundle.features.assembly import FeatureAssembler
from bundle.manifest import DECODE, ENCODE, ENCODER, BundleError, Manifest
from engine.generation import CONSTRAINTS, Begun, Times
from engine.native.encoder import NativeEncoder
from engine.native.kernel import UNCERTAINTIES, decode
from engine.native.weights import check, memory_shapes, read_decode, read_encode
from engine.sessions import PROVIDERS, open_session, ort
from engine.settings import Decoding, SessionSettings

LIKE = 0.75
"""Lists are written together if the shortest has this share of the longest's candidates."""

CANDIDATES = 3200
"""Most candidates of lists that are written together."""

Record = tuple[NDArray[Any], ...]
"""Arrays of the contract's `RECORD`, in order, `[B, M]` each."""


class Encoded(NamedTuple):
    """Requests' memories, to write slates from."""

    mask: NDArray[np.bool_]  # [B, N]
    memory: list[NDArray[Any]]  # `MEMORY` and the decoder's first state


class _Written(NamedTuple):
    record: Record
    steps: int  # micro-steps of the longest
    runners_up: NDArray[np.int64]  # [R, M, A]
    chances: NDArray[np.float32]  # [R, M, A]


def decodes_natively(manifest: Manifest) -> bool:
    """Whether the bundle has what native decoding needs."""
    return DECODE in manifest.hashes


class NativeRunner:
    """Compiles on the first batch, which is the warm-up's."""

    decoding: Decoding = "native"

    def __init__(
        self, bundle: Path, manifest: Manifest, features: FeatureAssembler, settings: SessionSettings
    ) -> None:
        """Raises BundleError when this bundle cannot be decoded natively."""
        if not decodes_natively(manifest):
            raise BundleError(
                f"{bundle}: cannot be decoded natively: the bundle has no {DECODE}; native decoding is for a "
                "GRU decoder with a deep reasoner or none"
            )
        self._encode: Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]
        self.tells_greedy = True
        self._decode, self._kind = decode, UNCERTAINTIES[manifest.gate.kind]
        if ENCODE in manifest.hashes and settings.provider == "cpu":
            weights = read_encode(bundle / ENCODE, manifest, features)
            self._encode = NativeEncoder(weights, settings.intra_op_threads).run
            self.provider = PROVIDERS["cpu"]
        else:
            session = open_session(bundle / ENCODER, settings)
            self._encode = partial(_encoded, session, bundle / ENCODER, manifest)
            self.provider = session.get_providers()[0]
        self._weights = read_decode(bundle / DECODE, manifest)

    def run(self, inputs: Named, controls: Named, times: Times | None = None) -> Arrays:
        batch = len(inputs["candidate_mask"])
        times = times or Times.unlimited(batch)
        most = _most_micro_steps(controls)
        groups = alike(inputs["candidate_mask"])
        if len(groups) == 1:
            written = self._write(self.encode(inputs), np.arange(batch), controls, times, most)
            record, steps = written.record, written.steps
        else:
            record, steps = _room(batch, most), 0
            for rows in groups:
                of_inputs, of_controls = _cut(inputs, controls, rows)
                of_times = Times(*(array[rows] for array in times))
                part = self._write(self.encode(of_inputs), np.arange(len(rows)), of_controls, of_times, most)
                steps = max(steps, part.steps)
                for whole, array in zip(record, part.record, strict=True):
                    whole[rows] = array
        return _stacked(record, steps)

    def encode(self, inputs: Named) -> Encoded:
        return Encoded(inputs["candidate_mask"], self._encode(inputs))

    def write(
        self,
        encoded: Encoded,
        rows: NDArray[np.int64],
        controls: Named,
        times: Times,
        prefix: NDArray[np.int64],
        alternatives: int,
    ) -> Begun:
        written = self._write(
            encoded, rows, controls, times, _most_micro_steps(controls), prefix, alternatives
        )
        steps = written.steps
        return Begun(
            _stacked(written.record, steps), written.runners_up[:, :steps], written.chances[:, :steps]
        )

    def _write(
        self,
        encoded: Encoded,
        rows: NDArray[np.int64],
        controls: Named,
        times: Times,
        most: int,
        prefix: NDArray[np.int64] | None = None,
        alternatives: int = 0,
    ) -> _Written:
        """`most`: micro-steps there is room for."""
        *memory, start = encoded.memory
        record = _room(len(rows), most)
        if prefix is None:
            prefix = np.empty((len(rows), 0), np.int64)
        runners_up = np.empty((len(rows), most, alternatives), np.int64)
        chances = np.empty(runners_up.shape, np.float32)
        steps = self._decode(
            self._kind,
            encoded.mask,
            start,
            rows,
            prefix,
            runners_up,
            chances,
            controls[CONSTRAINTS],
            *times,
            *memory,
            *[controls[spec.name] for spec in CONTROLS],
            *self._weights,
            *record,
        )
        return _Written(record, steps, runners_up, chances)


def _encoded(
    session: ort.InferenceSession, path: Path, manifest: Manifest, inputs: Named
) -> list[NDArray[Any]]:
    """As `NativeEncoder.run`. Raises BundleError when it is not what compiled decoding reads: of a graph that
    is only known once it has run."""
    names = [*(spec.name for spec in MEMORY), past("readout")]
    encoded: list[NDArray[Any]] = session.run(names, dict(inputs))
    found = dict(zip(names, encoded, strict=True))
    check(path, found, memory_shapes(manifest, found, *inputs["candidate_mask"].shape))
    return encoded


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


def _most_micro_steps(controls: Named) -> int:
    return int((controls["slate_length"] * (1 + controls["reasoning_budget"])).max())


def _stacked(record: Record, steps: int) -> Arrays:
    """Over micro-steps, `[M, B]` each."""
    return {spec.name: array[:, :steps].T for spec, array in zip(RECORD, record, strict=True)}


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

    return cut(inputs, ENCODER_INPUTS), {**cut(controls, CONTROLS), CONSTRAINTS: controls[CONSTRAINTS][rows]}
