"""Writes the bundle: the directory that is served. Its layout is `model.manifest`'s."""

import hashlib
import importlib.metadata
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

from export.step_graph import compose_slate, export_encoder, export_step, memory_specs, state_specs
from model.contract import CONTRACT_VERSION, OPSET
from model.features.assembly import FeatureAssembler
from model.manifest import CATALOGUE, ENCODER, FEATURES, MANIFEST, SLATE, STEP, Gate, Manifest, sha256
from model.policy import Policy

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Trained:
    """What there is to export: a trained policy and what it was trained with."""

    name: str
    dataset: str
    policy: Policy
    features: FeatureAssembler
    gate: Gate
    summary: Mapping[str, Any]


def write_bundle(trained: Trained, directory: Path, version: str | None = None) -> Manifest:
    """Export into `directory`, which is replaced as a whole once everything is written.

    Args:
        version: model version; a hash of the graphs when not given.
    """
    policy = trained.policy.eval()
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)

    specs = state_specs(policy)
    encoder, step = export_encoder(policy), export_step(policy)
    onnx.save(encoder, partial / ENCODER)
    onnx.save(step, partial / STEP)
    onnx.save(compose_slate(encoder, step, specs), partial / SLATE)
    (partial / FEATURES).write_text(trained.features.fitted.model_dump_json())
    trained.features.catalogue.save(partial / CATALOGUE)

    hashes = {path.name: sha256(path) for path in sorted(partial.iterdir())}
    config = policy.config
    manifest = Manifest(
        name=trained.name,
        version=version or hashlib.sha256((hashes[ENCODER] + hashes[STEP]).encode()).hexdigest()[:12],
        contract_version=CONTRACT_VERSION,
        opset=OPSET,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        reasoner=config.reasoner.kind,
        decoder=config.decoder,
        width=config.width,
        memory_axes={spec.name: list(spec.axes) for spec in memory_specs(policy)},
        state_axes={spec.name: list(spec.axes) for spec in specs},
        gate=trained.gate,
        reasoning_budget=config.reasoner.budget,
        reasoning_temperature=config.reasoner.temperature,
        selection_temperature=config.selection_temperature,
        slate_length=config.slate_length,
        dataset=trained.dataset,
        training=dict(trained.summary),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        hashes=hashes,
    )
    (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)
    return manifest
