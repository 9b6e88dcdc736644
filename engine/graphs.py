"""The exported graphs as runners.

`SlateRunner` is one graph call a batch: whole slates, on the CPU. `StepRunner` drives the step graph from
the host, one micro-step a call: the reference, and the path for accelerators.

Legend: B requests, M micro-steps.
"""

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
    NO_ITEM,
    RECORD,
    SELECTABLE,
    past,
    present,
)
from bundle.manifest import ENCODER, SLATE, STEP, Manifest
from engine.generation import Times
from engine.sessions import PROVIDERS, open_session
from engine.settings import Decoding, SessionSettings


class SlateRunner:
    """One graph call a batch: the encoder and a Loop whose body is the step."""

    decoding: Decoding = "graph"

    def __init__(self, bundle: Path, settings: SessionSettings) -> None:
        self._session = open_session(bundle / SLATE, settings)
        self._outputs = [spec.name for spec in RECORD]
        self.provider = self._session.get_providers()[0]

    def run(self, inputs: Named, controls: Named, times: Times | None = None) -> Arrays:
        records = self._session.run(self._outputs, {**inputs, **controls})
        return dict(zip(self._outputs, records, strict=True))


class StepRunner:
    """The encoder once, then the step graph until every slate is full.

    On CUDA the memory stays on the device and the state is carried from output to input through IO
    binding; only `chosen` and `position` come back to the host each micro-step.
    """

    decoding: Decoding = "step"

    def __init__(
        self, bundle: Path, manifest: Manifest, settings: SessionSettings, inspect: tuple[str, ...] = ()
    ) -> None:
        """`inspect` names further outputs of the step to stack beside the record, such as the logits."""
        self._encoder = open_session(bundle / ENCODER, settings)
        self._step = open_session(bundle / STEP, settings)
        self._reported = [*(spec.name for spec in RECORD), *inspect]
        self._state = [spec.name for spec in manifest.state_specs()]
        self.provider = self._step.get_providers()[0]

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
        while (position < length).any() or not rows:
            if times is not None:
                now = monotonic()
                budget = np.where(now >= times.reason_until, 0, budget)
                length = np.where(now >= times.deadline, position, length)
                step.bind_cpu_input("micro_step_budget", budget)
                step.bind_cpu_input("slate_length", length)
            for name in state_outputs:
                step.bind_output(name, device)
            for name in self._reported:
                step.bind_output(name, "cpu")
            self._step.run_with_iobinding(step)
            outputs = dict(zip(state_outputs + self._reported, step.get_outputs(), strict=True))
            rows.append([outputs[name].numpy() for name in self._reported])
            position = position + (outputs["chosen"].numpy() != NO_ITEM)
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


def first_counters(mask: NDArray[np.bool_]) -> Arrays:
    """`COUNTERS` before the first micro-step, as the step's inputs. `mask` is the candidate mask `[B, N]`."""
    return {
        past(spec.name): mask if spec is SELECTABLE else np.zeros(len(mask), spec.dtype) for spec in COUNTERS
    }
