"""Writes the bundle: the directory that is served. Its layout is `bundle.manifest`'s."""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bundle.contract import CONTRACT_VERSION, OPSET
from bundle.features.assembly import FeatureAssembler
from bundle.manifest import (
    CONFIG,
    DECODE,
    ENCODE,
    ENCODER,
    EVALUATE,
    EVALUATOR,
    EVALUATOR_ENCODER,
    EVALUATOR_WEIGHTS,
    MANIFEST,
    POLICY,
    SLATE,
    STEP,
    Calibration,
    Manifest,
    sha256,
)
from export.decode_weights import decode_weights
from export.encode_weights import encode_weights
from export.evaluate_weights import evaluate_weights
from export.evaluator_graph import export_evaluator, export_evaluator_encoder
from export.step_graph import compose_slate, export_encoder, export_step, memory_specs, state_specs
from model.evaluator import ClickModel
from model.policy import Policy
from model.training.checkpoint import save_features, save_tensors, save_text
from model.training.config import RunConfig

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Trained:
    """What there is to export: a trained policy and what it was trained with."""

    config: RunConfig
    policy: Policy
    features: FeatureAssembler
    calibration: Calibration
    summary: Mapping[str, Any]
    evaluator: ClickModel | None = None


def write_bundle(
    trained: Trained, directory: Path, version: str | None = None, name: str | None = None
) -> Manifest:
    """Export into `directory`, which must be new or empty. The manifest is written last.

    Args:
        version: model version; a hash of the graphs when not given.
        name: model name; the configuration's when not given.
    """
    policy = trained.policy.eval()
    directory.mkdir(parents=True, exist_ok=True)

    specs = state_specs(policy)
    encoder, step = export_encoder(policy), export_step(policy)
    onnx.save(encoder, directory / ENCODER)
    onnx.save(step, directory / STEP)
    onnx.save(compose_slate(encoder, step, specs), directory / SLATE)
    decoding = decode_weights(policy)
    if decoding is not None:
        np.savez(directory / DECODE, allow_pickle=False, **decoding._asdict())
        encoding = encode_weights(policy)
        if encoding is not None:
            np.savez(directory / ENCODE, allow_pickle=False, **encoding)
    if trained.evaluator is not None:
        _write_evaluator(trained.evaluator.eval(), policy, directory)
    save_features(directory, trained.features)
    save_text(directory / CONFIG, trained.config.model_dump_json(indent=2))
    save_tensors(directory / POLICY, policy.state_dict())

    hashes = {path.name: sha256(path) for path in sorted(directory.iterdir())}
    config = policy.config
    manifest = Manifest(
        name=name or trained.config.name,
        version=version or _version(hashes),
        contract_version=CONTRACT_VERSION,
        opset=OPSET,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        reasoner=config.reasoner.kind,
        decoder=config.decoder,
        width=config.width,
        memory_axes={spec.name: list(spec.axes) for spec in memory_specs(policy)},
        state_axes={spec.name: list(spec.axes) for spec in specs},
        gate=trained.calibration,
        reasoning_budget=config.reasoner.budget,
        reasoning_temperature=config.reasoner.temperature,
        selection_temperature=config.selection_temperature,
        slate_length=config.slate_length,
        dataset=trained.config.dataset,
        training=dict(trained.summary),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        hashes=hashes,
    )
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _write_evaluator(evaluator: ClickModel, policy: Policy, directory: Path) -> None:
    onnx.save(export_evaluator_encoder(evaluator, policy.sizes), directory / EVALUATOR_ENCODER)
    onnx.save(export_evaluator(evaluator), directory / EVALUATOR)
    save_tensors(directory / EVALUATOR_WEIGHTS, evaluator.state_dict())
    weights = evaluate_weights(evaluator)
    if weights is not None:
        np.savez(directory / EVALUATE, allow_pickle=False, **weights)


def _version(hashes: Mapping[str, str]) -> str:
    graphs = [hashes[name] for name in (ENCODER, STEP, EVALUATOR_ENCODER, EVALUATOR) if name in hashes]
    return hashlib.sha256("".join(graphs).encode()).hexdigest()[:12]
