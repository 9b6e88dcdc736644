"""The exported graphs as runners.

`SlateRunner` is one graph call a batch: whole slates, on the CPU. `StepRunner` drives the step graph from
the host, one micro-step a call: the reference, and the path for accelerators. `StepWriter` and
`EvaluatorGraphs` are what lookahead and traces need of them.

Legend: B requests, M micro-steps.
"""

from copy import copy
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Arrays, Named
from bundle.contract import (
    CONTROLS,
    COUNTERS,
    ENCODER_INPUTS,
    EVALUATED,
    LOGITS,
    NO_ITEM,
    NOISE,
    RECORD,
    SELECTABLE,
    SLATES,
    VALUE,
    past,
    present,
)
from bundle.manifest import ENCODER, EVALUATOR, EVALUATOR_ENCODER, SLATE, STEP, Manifest
from constraints.layout import is_constrained
from constraints.tracking import Tracker
from engine.generation import CONSTRAINTS, Begun, Times
from engine.sessions import PROVIDERS, open_session
from engine.settings import Decoding, SessionSettings

CERTAIN = 1e6
"""Noise that no difference of logits outweighs, and that leaves the others' order as it is."""


class SlateRunner:
    """One graph call a batch: the encoder and a Loop whose body is the step.

    Nobody can say between two steps of a Loop what may stand next, so that requests with constraints are
    written step by step.
    """

    decoding: Decoding = "graph"

    def __init__(self, bundle: Path, manifest: Manifest, settings: SessionSettings) -> None:
        self.stepwise = StepRunner(bundle, manifest, settings)
        self._session = open_session(bundle / SLATE, settings)
        self._outputs = _reported(self._session)
        self.tells_greedy = len(self._outputs) == len(RECORD)
        self.provider = self._session.get_providers()[0]

    def run(self, inputs: Named, controls: Named, times: Times | None = None) -> Arrays:
        constrained = is_constrained(controls[CONSTRAINTS])
        if constrained.all():
            return self.stepwise.run(inputs, controls, times)
        if not constrained.any():
            feed = {name: array for name, array in controls.items() if name != CONSTRAINTS}
            records = self._session.run(self._outputs, {**inputs, **feed})
            return dict(zip(self._outputs, records, strict=True))
        written = [
            (rows, self.run(*_some(rows, inputs, controls, times))) for rows in (constrained, ~constrained)
        ]
        longest = max(len(part["chosen"]) for _, part in written)
        records = {
            spec.name: np.zeros((longest, len(constrained)), spec.dtype)
            for spec in RECORD
            if spec.name in self._outputs
        }
        records["chosen"][:] = NO_ITEM
        for rows, part in written:
            for name, array in part.items():
                records[name][: len(array), rows] = array
        return records


def _some(
    rows: NDArray[np.bool_], inputs: Named, controls: Named, times: Times | None
) -> tuple[Named, Named, Times | None]:
    """Some of a batch."""
    of_inputs, of_controls = (
        {name: array[rows] for name, array in given.items()} for given in (inputs, controls)
    )
    return of_inputs, of_controls, times and Times(*(array[rows] for array in times))


class StepRunner:
    """The encoder once, then the step graph until every slate is full.

    On CUDA the memory stays on the device and the state is carried from output to input through IO
    binding; only `chosen` and `position` come back to the host each micro-step. Where something is asked of
    the slates, what may be chosen goes there from the host.
    """

    decoding: Decoding = "step"

    def __init__(
        self, bundle: Path, manifest: Manifest, settings: SessionSettings, inspect: tuple[str, ...] = ()
    ) -> None:
        """`inspect` names further outputs of the step to stack beside the record, such as the logits."""
        self._encoder = open_session(bundle / ENCODER, settings)
        self._step = open_session(bundle / STEP, settings)
        recorded = _reported(self._step)
        self._reported = [*recorded, *inspect]
        self.tells_greedy = len(recorded) == len(RECORD)
        self._state = [spec.name for spec in manifest.state_specs()]
        self.provider = self._step.get_providers()[0]

    def inspecting(self, *names: str) -> "StepRunner":
        """This one, with further outputs of the step beside the record."""
        other = copy(self)
        other._reported = [*self._reported, *names]
        return other

    def run(self, inputs: Named, controls: Named, times: Times | None = None) -> Arrays:
        device = "cuda" if self.provider == PROVIDERS["cuda"] else "cpu"
        step = self._step.io_binding()
        self._bind_start(step, inputs, device)
        for spec in CONTROLS:
            step.bind_cpu_input(spec.name, controls[spec.name])
        state_outputs = [present(name) for name in self._state]
        rows: list[list[NDArray[Any]]] = []
        length, budget = controls["slate_length"], controls["micro_step_budget"]
        position = np.zeros_like(length)
        tracker, left = Tracker(controls[CONSTRAINTS]), inputs["candidate_mask"].copy()
        while (position < length).any() or not rows:
            if times is not None:
                now = monotonic()
                budget = np.where(now >= times.reason_until, 0, budget)
                length = np.where(now >= times.deadline, position, length)
                step.bind_cpu_input("micro_step_budget", budget)
                step.bind_cpu_input("slate_length", length)
            if tracker.constrains:
                step.bind_cpu_input(past(SELECTABLE.name), tracker.narrowed(left))
            for name in state_outputs:
                step.bind_output(name, device)
            for name in self._reported:
                step.bind_output(name, "cpu")
            self._step.run_with_iobinding(step)
            outputs = dict(zip(state_outputs + self._reported, step.get_outputs(), strict=True))
            rows.append([outputs[name].numpy() for name in self._reported])
            chosen = outputs["chosen"].numpy()
            position = position + (chosen != NO_ITEM)
            if tracker.constrains:
                tracker.place(chosen, left)
            for name in self._state:
                step.bind_ortvalue_input(past(name), outputs[present(name)])
            step.clear_binding_outputs()
        return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(self._reported)}

    def _bind_start(self, step: Any, inputs: Named, device: str) -> None:
        """Run the encoder and bind its memory and the initial state as the step's inputs."""
        encoder = self._encoder.io_binding()
        for spec in ENCODER_INPUTS:
            encoder.bind_cpu_input(spec.name, inputs[spec.name])
        names = [output.name for output in self._encoder.get_outputs()]
        for name in names:
            encoder.bind_output(name, device)
        self._encoder.run_with_iobinding(encoder)
        for name, tensor in zip(names, encoder.get_outputs(), strict=True):
            step.bind_ortvalue_input(name, tensor)
        for name, start in first_counters(inputs["candidate_mask"]).items():
            step.bind_cpu_input(name, start)


class StepWriter:
    """Slates that begin as they are told to, by the step graph: an item is given as noise that nothing can
    outweigh. What is given is reasoned about and encoded again each time."""

    def __init__(self, stepwise: StepRunner) -> None:
        self._runner = stepwise.inspecting(LOGITS.name)

    def encode(self, inputs: Named) -> Named:
        return inputs

    def write(
        self,
        encoded: Named,
        rows: NDArray[np.int64],
        controls: Named,
        times: Times,
        prefix: NDArray[np.int64],
        alternatives: int,
    ) -> Begun:
        inputs = {name: array[rows] for name, array in encoded.items()}
        mask, longest = inputs["candidate_mask"], int(controls["slate_length"].max())
        noise = np.zeros((len(rows), longest, mask.shape[1]), np.float32)
        drawn = controls[NOISE.name]
        noise[:, : drawn.shape[1]] = drawn
        row, place = np.nonzero(prefix != NO_ITEM)
        noise[row, place, prefix[row, place]] = CERTAIN
        records = self._runner.run(inputs, {**controls, NOISE.name: noise}, times)
        logits, tracker = records.pop(LOGITS.name), Tracker(controls[CONSTRAINTS])
        return Begun(records, *_runners_up(logits, records, mask, tracker, alternatives))


def _runners_up(
    logits: NDArray[np.float32],
    records: Named,
    mask: NDArray[np.bool_],
    tracker: Tracker,
    alternatives: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """As in `Begun`, from `[M, B, N]`, the records and the candidate mask `[B, N]`."""
    steps, batch, n = logits.shape
    chosen = records["chosen"]
    written = (chosen != NO_ITEM) | records["reasoned"]
    items = np.full((batch, steps, alternatives), NO_ITEM, np.int64)
    chances = np.zeros((batch, steps, alternatives), np.float32)
    left = mask.copy()
    kept = min(alternatives, n)
    for step in range(steps):
        rows = np.flatnonzero(written[step])
        shown = np.where(tracker.narrowed(left)[rows], logits[step, rows], -np.inf)
        shares = np.exp(shown - shown.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        tracker.place(chosen[step], left)
        shares[~left[rows]] = 0.0
        order = (-shares).argsort(axis=1, kind="stable")[:, :kept]
        best = np.take_along_axis(shares, order, axis=1)
        items[rows, step, :kept] = np.where(best > 0, order, NO_ITEM)
        chances[rows, step, :kept] = best
    return items, chances


class EvaluatorGraphs:
    """What whole lists are worth, by the evaluator's two graphs."""

    def __init__(self, bundle: Path, settings: SessionSettings) -> None:
        self._encoder = open_session(bundle / EVALUATOR_ENCODER, settings)
        self._evaluator = open_session(bundle / EVALUATOR, settings)

    def encode(self, inputs: Named) -> NDArray[np.float32]:
        """`EVALUATED` of a batch."""
        (evaluated,) = self._encoder.run([EVALUATED.name], dict(inputs))
        return np.asarray(evaluated)

    def values(
        self, encoded: NDArray[np.float32], rows: NDArray[np.int64], slates: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        inputs = {EVALUATED.name: encoded[rows], SLATES.name: slates}
        (values,) = self._evaluator.run([VALUE.name], inputs)
        return np.asarray(values)


def _reported(session: Any) -> list[str]:
    """The part of `RECORD` that a graph has."""
    known = {output.name for output in session.get_outputs()}
    return [spec.name for spec in RECORD if spec.name in known]


def first_counters(mask: NDArray[np.bool_]) -> Arrays:
    """`COUNTERS` before the first micro-step, as the step's inputs. `mask` is the candidate mask `[B, N]`."""
    return {
        past(spec.name): mask if spec is SELECTABLE else np.zeros(len(mask), spec.dtype) for spec in COUNTERS
    }
