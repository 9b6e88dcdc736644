"""The step path in fixed shapes and places: what CUDA graphs can be captured of, and TensorRT be built for.

A batch is padded to the next of a few sizes. Each size has sessions of its own, in which no shape is left to
compute, and tensors of its own on the device, which are written over and never moved: the state goes to and
fro between two places, so that a step is one of two graphs. Only the record of a step comes back to the host.

Runs on the CPU as it does on a device, which is how it is tested; docs/accelerators.md has what never was.
Nothing of the service uses it. Legend: B requests, N candidates, H history events, P noise positions.
"""

from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Arrays, Named
from bundle.contract import CONTROLS, ENCODER_INPUTS, NO_ITEM, RECORD, SELECTABLE, past, present
from bundle.manifest import ENCODER, STEP, Manifest
from constraints.tracking import Tracker
from engine.generation import CONSTRAINTS, Times
from engine.graphs import first_counters
from engine.sessions import PROVIDERS, open_session, ort
from engine.settings import Decoding, SessionSettings

SIZES: dict[str, tuple[int, ...]] = {
    "B": (1, 4, 16, 64),
    "N": (16, 64, 256, 1024, 2048),
    "H": (16, 64, 256),
    "P": (1, 16, 64, 256, 2048),
}
"""By axis. Past the last, multiples of it."""

DTYPES = {"float": np.float32, "int64": np.int64, "int32": np.int32, "bool": np.bool_}


class Bucket(NamedTuple):
    """Sizes that a batch is padded to."""

    B: int
    N: int
    H: int
    P: int

    @classmethod
    def of(cls, inputs: Named, controls: Named) -> "Bucket":
        """The least that holds a batch."""
        batch, candidates = inputs["candidate_mask"].shape
        sizes = (batch, candidates, inputs["history_feedback"].shape[1], controls["noise"].shape[1])
        return cls(*(_next(axis, size) for axis, size in zip(cls._fields, sizes, strict=True)))

    def padded(self, arrays: Named, axes: Mapping[str, tuple[str | int, ...]]) -> Arrays:
        """Arrays with zeros up to these sizes: candidates that are masked, events of nothing, requests whose
        slates have no position."""
        sizes = self._asdict()
        made = {}
        for name, array in arrays.items():
            shape = [
                sizes.get(str(axis), length) for axis, length in zip(axes[name], array.shape, strict=True)
            ]
            made[name] = np.zeros(shape, array.dtype)
            made[name][tuple(slice(length) for length in array.shape)] = array
        return made


AXES = {spec.name: spec.axes for spec in (*ENCODER_INPUTS, *CONTROLS)}


def _next(axis: str, size: int) -> int:
    sizes = SIZES[axis]
    place = bisect_left(sizes, size)
    return sizes[place] if place < len(sizes) else -(-size // sizes[-1]) * sizes[-1]


class FixedShapeRunner:
    """As `engine.graphs.StepRunner`, in fixed shapes."""

    decoding: Decoding = "step"

    def __init__(
        self, bundle: Path, manifest: Manifest, settings: SessionSettings, *, captured: bool = False
    ) -> None:
        """`captured`: of CUDA, each step as a CUDA graph."""
        self._bundle, self._settings, self._captured = bundle, settings, captured
        self._state = [spec.name for spec in manifest.state_specs()]
        self._places: dict[Bucket, _Places] = {}
        first = self._at(Bucket(*(SIZES[axis][0] for axis in Bucket._fields)))
        self.provider, self.tells_greedy = first.provider, len(first.reported) == len(RECORD)

    @property
    def buckets(self) -> list[Bucket]:
        """Those that have been used."""
        return list(self._places)

    def run(self, inputs: Named, controls: Named, times: Times | None = None) -> Arrays:
        bucket = Bucket.of(inputs, controls)
        places, batch = self._at(bucket), len(inputs["candidate_mask"])
        asked = {spec.name: controls[spec.name] for spec in CONTROLS}
        fixed, wanted = bucket.padded(inputs, AXES), bucket.padded(asked, AXES)
        for name in ("reasoning_temperature", "selection_temperature"):
            wanted[name][batch:] = 1.0  # which logits are divided by
        places.begin(fixed, wanted)
        length, budget = wanted["slate_length"].copy(), wanted["micro_step_budget"].copy()
        position = np.zeros_like(length)
        candidates = inputs["candidate_mask"].shape[1]
        tracker, left = Tracker(controls[CONSTRAINTS]), inputs["candidate_mask"].copy()
        rows: list[list[NDArray[Any]]] = []
        while (position < length).any() or not rows:
            if times is not None:
                now = monotonic()
                budget[:batch] = np.where(now >= times.reason_until, 0, budget[:batch])
                length[:batch] = np.where(now >= times.deadline, position[:batch], length[:batch])
                places.write("micro_step_budget", budget)
                places.write("slate_length", length)
            if tracker.constrains:
                allowed = fixed["candidate_mask"].copy()
                allowed[:batch, :candidates] = tracker.narrowed(left)
                places.write_state(SELECTABLE.name, allowed)
            row = places.step()
            chosen = row["chosen"]
            position = position + (chosen != NO_ITEM)
            if tracker.constrains:
                tracker.place(chosen[:batch], left)
            rows.append([row[name][:batch] for name in places.reported])
        return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(places.reported)}

    def _at(self, bucket: Bucket) -> "_Places":
        if bucket not in self._places:
            made = _Places(self._bundle, self._settings, bucket, self._state, self._captured)
            self._places[bucket] = made
        return self._places[bucket]


class _Places:
    """Sessions of one size, and where their tensors are.

    Attributes:
        reported: the part of `RECORD` that the graph has.
    """

    def __init__(
        self, bundle: Path, settings: SessionSettings, bucket: Bucket, state: list[str], captured: bool
    ) -> None:
        encoder, self._step = (
            open_session(bundle / name, settings, axes=bucket._asdict(), captured=captured)
            for name in (ENCODER, STEP)
        )
        self._encoder = encoder
        self.provider = self._step.get_providers()[0]
        self._device = "cuda" if self.provider == PROVIDERS["cuda"] else "cpu"
        self._state = state
        given, made = self._step.get_inputs(), self._step.get_outputs()
        told = {tensor.name for tensor in made}
        self.reported = [spec.name for spec in RECORD if spec.name in told]
        self._inputs = {tensor.name: self._empty(tensor) for tensor in encoder.get_inputs()}
        # The state has two places, and what a step reads is written by the one before it.
        steps = {tensor.name: self._empty(tensor) for tensor in given}
        others = {past(name): self._empty_as(steps[past(name)]) for name in state}
        self._tensors = steps
        self._states = (steps, {**steps, **others})
        rest = {tensor.name: self._empty(tensor) for tensor in made if tensor.name not in map(present, state)}
        self._record = {name: rest[name] for name in self.reported}
        self._bindings = [self._bound(place, rest) for place in (0, 1)]
        self._begin = self._encoder.io_binding()
        for name, tensor in self._inputs.items():
            self._begin.bind_ortvalue_input(name, tensor)
        for output in encoder.get_outputs():
            self._begin.bind_ortvalue_output(output.name, steps[output.name])
        self._place = 0

    def begin(self, inputs: Named, controls: Named) -> None:
        """Run the encoder, and set the state to what it is before the first step."""
        for name, array in inputs.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(array))
        for name, array in {**controls, **first_counters(inputs["candidate_mask"])}.items():
            self.write(name, array)
        self._encoder.run_with_iobinding(self._begin, self._run_options(0))
        self._place = 0

    def write(self, name: str, array: NDArray[Any]) -> None:
        """An input of the step."""
        self._tensors[name].update_inplace(np.ascontiguousarray(array))

    def write_state(self, name: str, array: NDArray[Any]) -> None:
        """What the next step reads."""
        self._states[self._place][past(name)].update_inplace(np.ascontiguousarray(array))

    def step(self) -> Arrays:
        """One micro-step, and its record."""
        self._step.run_with_iobinding(self._bindings[self._place], self._run_options(1 + self._place))
        self._place = 1 - self._place
        return {name: tensor.numpy().copy() for name, tensor in self._record.items()}

    def _bound(self, place: int, rest: Mapping[str, Any]) -> Any:
        binding = self._step.io_binding()
        for name, tensor in self._states[place].items():
            binding.bind_ortvalue_input(name, tensor)
        for name in self._state:
            binding.bind_ortvalue_output(present(name), self._states[1 - place][past(name)])
        for name, tensor in rest.items():
            binding.bind_ortvalue_output(name, tensor)
        return binding

    def _empty(self, tensor: Any) -> Any:
        """Where a session's input or output goes."""
        dtype = DTYPES[tensor.type.removeprefix("tensor(").removesuffix(")")]
        return ort.OrtValue.ortvalue_from_numpy(np.zeros(tensor.shape, dtype), self._device)

    def _empty_as(self, tensor: Any) -> Any:
        return ort.OrtValue.ortvalue_from_numpy(np.zeros_like(tensor.numpy()), self._device)

    @staticmethod
    def _run_options(graph: int) -> Any:
        """Each graph of a session is captured under a number of its own."""
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph + 1))
        return options
