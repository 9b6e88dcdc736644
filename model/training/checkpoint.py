"""Weights, configuration and fitted features of a training run, in one directory.

    config.json, policy.pt, features.json, catalogue.npz
    evaluator.pt, gate.json, summary.json

A bundle holds the first four too, so what reads a run reads a bundle. Knows nothing of how training goes.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch

from bundle.errors import RerankerError
from bundle.features.assembly import FeatureAssembler
from bundle.features.catalogue import Catalogue
from bundle.features.fitting import FittedFeatures
from bundle.manifest import CATALOGUE, CONFIG, EVALUATOR_WEIGHTS, FEATURES, POLICY, Calibration
from model.config import EvaluatorNetworkConfig
from model.evaluator import ClickModel, build_evaluator
from model.policy import Policy
from model.sizes import feature_sizes
from model.training.config import RunConfig

GATE, SUMMARY = "gate.json", "summary.json"


class CheckpointError(RerankerError):
    """A run directory that cannot be read or gone on with; the message says why."""


def save_tensors(path: Path, value: Any) -> None:
    """Write atomically: a killed run leaves the last whole file."""
    partial = path.with_suffix(".partial")
    torch.save(value, partial)
    os.replace(partial, path)


def save_text(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)


def save_features(run: Path, features: FeatureAssembler) -> None:
    save_text(run / FEATURES, features.fitted.model_dump_json())
    features.catalogue.save(run / CATALOGUE)


def load_config(run: Path) -> RunConfig:
    """Raises CheckpointError when there is no run."""
    return RunConfig.model_validate_json(_existing(run, CONFIG).read_text())


def load_features(run: Path) -> FeatureAssembler:
    """Raises CheckpointError when the run has not come to its features."""
    fitted = FittedFeatures.model_validate_json(_existing(run, FEATURES).read_text())
    return FeatureAssembler(fitted, Catalogue.load(_existing(run, CATALOGUE), fitted))


def load_policy(run: Path, features: FeatureAssembler) -> Policy:
    """The finished policy of a run, in eval mode. Raises CheckpointError when the run has not finished."""
    policy = Policy(load_config(run).policy, feature_sizes(features))
    policy.load_state_dict(torch.load(_existing(run, POLICY), weights_only=True))
    return policy.eval()


def load_evaluator(run: Path, features: FeatureAssembler) -> ClickModel:
    """The evaluator of a run, in eval mode. Raises CheckpointError when the run has not come to it."""
    config = load_config(run).evaluator
    evaluator = build_evaluator(config, config.members, feature_sizes(features))
    evaluator.load_state_dict(torch.load(_existing(run, EVALUATOR_WEIGHTS), weights_only=True))
    return evaluator.eval()


def load_start(run: Path, config: RunConfig) -> tuple[FittedFeatures, Policy, ClickModel]:
    """What a run of this configuration can start from instead of nothing.

    Raises:
        CheckpointError: the run has not finished, or its networks or features are others.
    """
    theirs = load_config(run)
    network = EvaluatorNetworkConfig.model_fields.keys() | {"members"}
    for name, ours, earlier in (
        ("features", config.features, theirs.features),
        ("policy", config.policy, theirs.policy),
        ("evaluator", *(one.evaluator.model_dump(include=network) for one in (config, theirs))),
    ):
        if ours != earlier:
            raise CheckpointError(f"{run}: its {name} is configured otherwise, so no run can start from it")
    features = load_features(run)
    return features.fitted, load_policy(run, features), load_evaluator(run, features)


def load_gate(run: Path) -> Calibration:
    """Raises CheckpointError when the run has not finished."""
    return Calibration.model_validate_json(_existing(run, GATE).read_text())


def load_summary(run: Path) -> dict[str, Any]:
    """Raises CheckpointError when the run has not finished."""
    return dict(json.loads(_existing(run, SUMMARY).read_text()))


def _existing(run: Path, name: str) -> Path:
    if not (run / CONFIG).is_file():
        raise CheckpointError(f"{run}: no training run here ({CONFIG} is missing)")
    if not (run / name).is_file():
        raise CheckpointError(
            f"{run}: training has not finished ({name} is missing); start it again to resume"
        )
    return run / name
