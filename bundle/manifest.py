"""The bundle: the directory that is served. Its file names, its manifest, and the check of both.

The exporter writes it, the service reads it; said once here. Standard library and pydantic only.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, ValidationError

from bundle.contract import CONTRACT_VERSION, COUNTERS, TensorSpec
from bundle.errors import RerankerError, in_a_line
from bundle.features.schema import Frozen
from bundle.reference import Reference

ENCODER, STEP, SLATE = "encoder.onnx", "step.onnx", "slate.onnx"
FEATURES, CATALOGUE, MANIFEST = "features.json", "catalogue.npz", "manifest.json"
DECODE, ENCODE = "decode.npz", "encode.npz"
"""Weights of the micro-step and of the encoder for native decoding; only where it knows decoder and reasoner,
and the encoder."""
EVALUATOR_ENCODER, EVALUATOR, EVALUATE = "evaluator_encoder.onnx", "evaluator.onnx", "evaluate.npz"
"""The evaluator, for lookahead, where the run has trained one; and its weights for native evaluation."""
OPTIONAL = (DECODE, ENCODE, EVALUATOR_ENCODER, EVALUATOR, EVALUATE)
CONFIG, POLICY, EVALUATOR_WEIGHTS = "config.json", "policy.pt", "evaluator.pt"
"""The run's configuration and the weights in PyTorch's format: what parity is checked against, and what
training can go on from. The service reads none of them."""


MAX_MANIFEST_BYTES, MAX_FILE_BYTES = 16 * 2**20, 8 * 2**30

MOST_ALTERNATIVES = 100

Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=0.001, le=1000)]
Name = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
"""Of a file in the bundle's folder itself."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

GateKind = Literal["normalised", "raw", "margin"]


class BundleError(RerankerError):
    """The bundle cannot be served: missing, corrupted, or written under another contract."""


class CurvePoint(Frozen):
    """What one threshold gives on held-out lists; `score` is what training selects by."""

    quantile: Share
    threshold: float
    trigger_rate: Share
    tokens_per_list: NonNegativeFloat
    score: float
    ms_per_list: NonNegativeFloat


class LookaheadPoint(Frozen):
    """What looking so far ahead gives on held-out lists; `judged_per_list` are others that were compared."""

    alternatives: Annotated[int, Field(ge=0)]
    judged_per_list: NonNegativeFloat
    score: float
    ms_per_list: NonNegativeFloat


class Calibration(Frozen):
    """The gate's threshold, where it came from, and what was met with it.

    Attributes:
        kind: `normalised` compares entropy / log(remaining candidates), in 0..1; `raw` nats; `margin`
            1 - (best - second best probability), in 0..1.
        threshold: reason above this, in the unit of `kind`.
        quantile: share of held-out positions at or below the threshold.
        trigger_rate: share of held-out positions that reason at it.
        entropy_by_position: held-out mean entropy in nats per position, before and after reasoning.
        reference: what else was met on the held-out lists at this threshold, for drift; None in bundles
            that were calibrated before it was kept.
        curve: what other thresholds give, once `python -m export.calibrate` has measured it.
    """

    kind: GateKind
    threshold: float
    quantile: Share
    trigger_rate: Share
    tokens_per_list: NonNegativeFloat
    entropy_by_position: dict[Literal["before", "after"], list[NonNegativeFloat]]
    reference: Reference | None = None
    curve: tuple[CurvePoint, ...] = ()


class Manifest(Frozen):
    """Everything about a bundle but the tensors.

    Attributes:
        memory, state: tensor names and axes of the graphs, in order, as `bundle.contract` states them.
        gate: when the model reasons.
        hashes: sha256 of every other file.
        reasoning_budget: most reasoning tokens per position the model was trained with; the default.
        lookahead: other items to try at an uncertain position if a request does not say; needs an evaluator.
        lookahead_curve: what more or less of it gives, once `python -m export.calibrate` has measured it.
    """

    name: Name
    version: Name
    contract_version: int
    opset: int
    created: str
    reasoner: str
    decoder: str
    width: Annotated[int, Field(ge=1, le=65_536)]
    memory_axes: dict[str, list[str | int]]
    state_axes: dict[str, list[str | int]]
    gate: Calibration
    reasoning_budget: Annotated[int, Field(ge=0, le=1000)]
    reasoning_temperature: Temperature
    selection_temperature: Temperature
    slate_length: Annotated[int, Field(ge=1, le=10_000)]
    lookahead: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] = 0
    lookahead_curve: tuple[LookaheadPoint, ...] = ()
    dataset: str
    training: dict[str, Any]
    versions: dict[str, str]
    hashes: dict[FileName, Sha256] = Field(default_factory=dict)

    @property
    def has_evaluator(self) -> bool:
        """Whether it can look ahead."""
        return EVALUATOR in self.hashes

    def state_specs(self) -> tuple[TensorSpec, ...]:
        """The step state's tensors in the graphs' order."""
        counters = {spec.name: spec.dtype for spec in COUNTERS}
        return tuple(
            TensorSpec(name, counters.get(name, "float32"), tuple(axes))
            for name, axes in self.state_axes.items()
        )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest and verify every file against it.

    Raises:
        BundleError: no bundle there, a value is out of range, a file is missing, changed, too large or
            elsewhere, or the contract is another one.
    """
    path = bundle / MANIFEST
    if not path.is_file():
        raise BundleError(f"{bundle}: no bundle here ({MANIFEST} is missing)")
    _check_file(bundle, MANIFEST, MAX_MANIFEST_BYTES)
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BundleError(f"{path}: not a manifest this version can read: {in_a_line(error)}") from None
    if manifest.contract_version != CONTRACT_VERSION:
        raise BundleError(
            f"{bundle}: written under step contract {manifest.contract_version}, "
            f"this version speaks {CONTRACT_VERSION}; export the checkpoint again"
        )
    if (EVALUATOR in manifest.hashes) != (EVALUATOR_ENCODER in manifest.hashes):
        raise BundleError(f"{path}: one of {EVALUATOR_ENCODER} and {EVALUATOR} is missing")
    if manifest.lookahead and not manifest.has_evaluator:
        raise BundleError(f"{path}: lookahead: there is no {EVALUATOR} to look ahead with")
    optional = [name for name in OPTIONAL if name in manifest.hashes]
    for name in (ENCODER, STEP, SLATE, FEATURES, CATALOGUE, CONFIG, POLICY, *optional):
        if name not in manifest.hashes:
            raise BundleError(f"{path}: no hash of {name}")
        if not (bundle / name).is_file():
            raise BundleError(f"{bundle}: {name} is missing")
        _check_file(bundle, name, MAX_FILE_BYTES)
        if sha256(bundle / name) != manifest.hashes[name]:
            raise BundleError(f"{bundle}: {name} does not match its sha256 in {MANIFEST}")
    return manifest


def _check_file(bundle: Path, name: str, most_bytes: int) -> None:
    """Raises: BundleError: it is a link to somewhere else, or too large."""
    if not (bundle / name).resolve().is_relative_to(bundle.resolve()):
        raise BundleError(f"{bundle}: {name} is a link that leaves the bundle")
    if (size := (bundle / name).stat().st_size) > most_bytes:
        raise BundleError(f"{bundle}: {name} has {size} bytes, more than {most_bytes}")
