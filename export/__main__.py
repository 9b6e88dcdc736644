"""Export a training run: `python -m export --run runs/ranklens --bundle bundles/ranklens`.

Writes the bundle, refuses it unless whole rollouts agree with PyTorch, and only then makes it the current
version of its model: `bundle.repository`.
"""

import argparse
import shutil
from pathlib import Path

from bundle.errors import faults_told
from bundle.repository import point, publish
from export.parity import check_bundle
from export.writer import Trained, write_bundle
from model.progress import console
from model.training.checkpoint import (
    has_evaluator,
    load_config,
    load_evaluator,
    load_features,
    load_gate,
    load_policy,
    load_summary,
)

QUICK_CHECK = 200
"""Random lists compared at export; `python -m export.parity` compares thousands."""


def export(run: Path, folder: Path, version: str | None = None, current: bool = True) -> Path:
    """Write a new version into a model's folder, which names the model, and verify it.

    Args:
        current: serve it from the next (re)load on.

    Raises:
        BundleError: this version is there already.
        CheckpointError: the run has not finished.
        ParityError: the exported graphs do not agree with the policy.
    """
    features = load_features(run)
    trained = Trained(
        load_config(run),
        load_policy(run, features),
        features,
        load_gate(run),
        load_summary(run),
        evaluator=load_evaluator(run, features) if has_evaluator(run) else None,
    )
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    manifest = write_bundle(trained, partial, version, folder.name)
    check_bundle(partial, random=QUICK_CHECK, real=0)
    bundle = publish(partial, folder, manifest.version)
    if current:
        point(folder, manifest.version)
    console.print(f"{bundle}: {manifest.name} version {manifest.version}{', current' if current else ''}")
    return bundle


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="directory of a finished training run")
    parser.add_argument("--bundle", type=Path, required=True, help="the model's folder, whose name it has")
    parser.add_argument("--version", help="model version; a hash of the graphs when not given")
    parser.add_argument("--not-current", action="store_true", help="leave the current version as it is")
    arguments = parser.parse_args()
    with faults_told():
        export(arguments.run, arguments.bundle, arguments.version, not arguments.not_current)


if __name__ == "__main__":
    main()
