"""ONNX Runtime sessions of a bundle, and the ways to run them.

`SlateRunner` is one graph call a batch: whole slates, on the CPU. `StepRunner` drives the step graph from
the host, one micro-step a call: the reference, and the path for accelerators. `native.NativeRunner` decodes
in compiled code, where it can. All take the same inputs and return the same records.

Legend: B requests, N candidates, M micro-steps, P noise positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from model.contract import CONTROLS, COUNTERS, ENCODER_INPUTS, MEMORY, NO_ITEM, RECORD, past, present
from model.manifest import ENCODER, SLATE, STEP, BundleError, Manifest
from service.engine.allocator import keep_freed

Arrays = dict[str, NDArray[Any]]
Provider = Literal["cpu", "cuda"]
Decoding = Literal["auto", "graph", "step", "native"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class ProviderUnavailableError(BundleError):
    """The asked execution provider is not active; ONNX Runtime would have fallen back silently."""


Named = Mapping[str, NDArray[Any]]


class Runner(Protocol):
    """Writes slates for a batch."""

    provider: str

    def run(self, inputs: Named, controls: Named, deadlines: NDArray[np.float64] | None = None) -> Arrays:
        """Run a batch to the end of every slate.

        Args:
            inputs: one array for each of `ENCODER_INPUTS`.
            controls: one array for each of `CONTROLS`.
            deadlines: `[B]`, `time.monotonic()` seconds. A runner that comes back to the host between
                micro-steps spends no more reasoning tokens in a row whose slate would else be late; the
                others have only the micro-step budget among the controls.

        Returns:
            One array for each of `RECORD`, stacked over micro-steps: `[M, B]`.
        """
        ...


@dataclass(frozen=True)
class SessionSettings:
    """How sessions are created, and what memory the process keeps between batches. One thread and no spinning
    suits one process a core."""

    provider: Provider = "cpu"
    decoding: Decoding = "auto"
    intra_op_threads: int = 1
    spinning: bool = False
    require_provider: bool = True
    keep_freed_mib: int = 256


def session_options(intra_op_threads: int = 1, spinning: bool = False) -> ort.SessionOptions:
    """Operators one after another, each on so many threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    return options


def open_session(path: Path, settings: SessionSettings) -> ort.InferenceSession:
    """Load a graph.

    Raises:
        BundleError: ONNX Runtime cannot load it.
        ProviderUnavailableError: the provider is not active and `require_provider` is set.
    """
    options = session_options(settings.intra_op_threads, settings.spinning)
    wanted = PROVIDERS[settings.provider]
    providers = [p for p in (wanted, PROVIDERS["cpu"]) if p in ort.get_available_providers()]
    try:
        session = ort.InferenceSession(path, options, providers=list(dict.fromkeys(providers)))
    except Exception as error:
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    if settings.require_provider and session.get_providers()[0] != wanted:
        raise ProviderUnavailableError(
            f"{wanted} was asked for but {session.get_providers()[0]} is active; install onnxruntime-gpu "
            "with a matching CUDA, or allow the fallback"
        )
    return session


class SlateRunner:
    """One graph call a batch: the encoder and a Loop whose body is the step."""

    def __init__(self, bundle: Path, settings: SessionSettings) -> None:
        self._session = open_session(bundle / SLATE, settings)
        self._outputs = [spec.name for spec in RECORD]
        self.provider = self._session.get_providers()[0]

    def run(self, inputs: Named, controls: Named, deadlines: NDArray[np.float64] | None = None) -> Arrays:
        records = self._session.run(self._outputs, {**inputs, **controls})
        return dict(zip(self._outputs, records, strict=True))


class StepRunner:
    """The encoder once, then the step graph until every slate is full.

    On CUDA the memory stays on the device and the state is carried from output to input through IO
    binding; only `chosen` and `position` come back to the host each micro-step.
    """

    def __init__(
        self, bundle: Path, manifest: Manifest, settings: SessionSettings, inspect: tuple[str, ...] = ()
    ) -> None:
        """`inspect` names further outputs of the step to stack beside the record, such as the logits."""
        self._encoder = open_session(bundle / ENCODER, settings)
        self._step = open_session(bundle / STEP, settings)
        self._reported = [*(spec.name for spec in RECORD), *inspect]
        self._state = [spec.name for spec in manifest.state_specs()]
        self._memory = [spec.name for spec in MEMORY]
        self._counters = {spec.name for spec in COUNTERS}
        self.provider = self._step.get_providers()[0]

    def run(self, inputs: Named, controls: Named, deadlines: NDArray[np.float64] | None = None) -> Arrays:
        device = "cuda" if self.provider == PROVIDERS["cuda"] else "cpu"
        step = self._step.io_binding()
        self._bind_start(step, inputs, device)
        for spec in CONTROLS:
            step.bind_cpu_input(spec.name, controls[spec.name])
        state_outputs = [present(name) for name in self._state]
        rows: list[list[NDArray[Any]]] = []
        length, budget = controls["slate_length"], controls["micro_step_budget"]
        position, started = np.zeros_like(length), monotonic()
        while (position < length).any():
            if deadlines is not None:
                now = monotonic()
                a_step = (now - started) / max(1, len(rows))
                late = now + (length - position) * a_step >= deadlines
                budget = np.where(late, 0, budget)
                step.bind_cpu_input("micro_step_budget", budget)
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
        outputs = dict(zip(names, encoder.get_outputs(), strict=True))
        for name in self._memory:
            step.bind_ortvalue_input(name, outputs[name])
        for name in self._state:
            if name not in self._counters:
                step.bind_ortvalue_input(past(name), outputs[past(name)])
        batch = len(inputs["candidate_mask"])
        step.bind_cpu_input(past("selectable"), inputs["candidate_mask"])
        for name in ("position", "tokens_here", "micro_steps"):
            step.bind_cpu_input(past(name), np.zeros(batch, np.int64))


def open_runner(bundle: Path, manifest: Manifest, settings: SessionSettings) -> Runner:
    """The runner that the settings ask for.

    `auto` takes, on the CPU, native decoding where the bundle has what it needs, else the slate graph; on a
    device the step path, for there is no control flow there.

    Raises:
        BundleError: the bundle cannot be decoded that way.
    """
    from service.engine.native import NativeRunner, decodes_natively  # it opens its sessions here

    keep_freed(settings.keep_freed_mib)
    decoding = settings.decoding
    if decoding == "auto" and settings.provider != "cpu":
        decoding = "step"
    elif decoding == "auto":
        decoding = "native" if decodes_natively(manifest) else "graph"
    if decoding == "native":
        return NativeRunner(bundle, manifest, settings)
    if decoding == "step":
        return StepRunner(bundle, manifest, settings)
    return SlateRunner(bundle, settings)
