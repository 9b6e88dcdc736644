"""Weights, configuration and fitted features of a training run, in one directory.

    config.json, policy.pt, features.json, catalogue.npz
    evaluator.pt (if one was trained and can be trusted), gate.json, summary.json

A bundle holds the first four too, so what reads a run reads a bundle. Knows nothing of how training goes.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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

GATE, SUMMARY, METRICS, BOARD = "gate.json", "summary.json", "metrics.csv", "tensorboard"
LOG_SHA256, REFUSED, LOCK = "log.sha256", "refused.txt", "lock"
"""Which log the run is of, why it ended in nothing if it did, and what keeps other trainings out."""
STATES = "*.state.pt"
"""Of phases after their last epoch."""


class CheckpointError(RerankerError):
    """A run directory that cannot be read or gone on with; the message says why."""


def save_tensors(path: Path, value: Any) -> None:
    """Write atomically: a killed run leaves the last whole file."""
    partial = path.with_suffix(".partial")
    torch.save(value, partial)
    os.replace(partial, path)


def load_tensors(path: Path) -> Any:
    """What `save_tensors` wrote, on the CPU, wherever it was."""
    return torch.load(path, map_location="cpu", weights_only=True)


def save_text(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)


def claim(run: Path, config: RunConfig, log_sha256: str | None) -> None:
    """Make a directory the place of a run, or find that it is. A run that was refused, or came to no epoch,
    makes way for another.

    Args:
        log_sha256: of the log, None where it is not known.

    Raises:
        CheckpointError: it holds a run with another configuration, or of another log.
    """
    if fault := _of_another(run, config, log_sha256):
        if (run / SUMMARY).exists() or (any(run.glob(STATES)) and not (run / REFUSED).exists()):
            raise CheckpointError(f"{run} holds a run {fault}; give another --run or remove it")
        _clear(run)
    (run / REFUSED).unlink(missing_ok=True)
    save_text(run / CONFIG, config.model_dump_json(indent=2))
    if log_sha256 is not None:
        save_text(run / LOG_SHA256, log_sha256)


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Keep other trainings out of a run's directory for as long as this one goes on.

    Raises:
        CheckpointError: another goes on there.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = f"{run}: another training goes on here; wait for it, or give another --run"
            raise CheckpointError(told) from None
        yield


def _of_another(run: Path, config: RunConfig, log_sha256: str | None) -> str | None:
    """In what the run that is there is another one, if there is one and it is."""
    if not (run / CONFIG).exists():
        return None
    if load_config(run) != config:
        return "with another configuration"
    known = (run / LOG_SHA256).read_text() if (run / LOG_SHA256).exists() else None
    if known is not None and log_sha256 is not None and known != log_sha256:
        return f"of {config.event_log} as it was before it changed, and a changed log is a new run"
    return None


def _clear(run: Path) -> None:
    names = (CONFIG, LOG_SHA256, FEATURES, CATALOGUE, METRICS)
    for path in (*run.glob(STATES), *(run / name for name in names)):
        path.unlink(missing_ok=True)
    shutil.rmtree(run / BOARD, ignore_errors=True)


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
    policy.load_state_dict(load_tensors(_existing(run, POLICY)))
    return policy.eval()


def has_evaluator(run: Path) -> bool:
    """Whether the run has one that can be trusted."""
    return (run / EVALUATOR_WEIGHTS).exists()


def load_evaluator(run: Path, features: FeatureAssembler) -> ClickModel:
    """The evaluator of a run that has one, in eval mode."""
    config = load_config(run).evaluator
    evaluator = build_evaluator(config, config.members, feature_sizes(features))
    evaluator.load_state_dict(load_tensors(_existing(run, EVALUATOR_WEIGHTS)))
    return evaluator.eval()


def load_start(run: Path, config: RunConfig) -> tuple[FittedFeatures, Policy, ClickModel | None]:
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
    evaluator = load_evaluator(run, features) if has_evaluator(run) else None
    return features.fitted, load_policy(run, features), evaluator


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
