"""Export a training run: `python -m export --run runs/ranklens --bundle bundles/ranklens`.

Writes the bundle, then refuses it unless whole rollouts agree with PyTorch.
"""

import argparse
import shutil
from pathlib import Path

from bundle.errors import RerankerError
from export.parity import check_bundle
from export.writer import Trained, write_bundle
from model.progress import console
from model.training.checkpoint import (
    load_config,
    load_evaluator,
    load_features,
    load_gate,
    load_policy,
    load_summary,
)

QUICK_CHECK = 200
"""Random lists compared at export; `python -m export.parity` compares thousands."""


def export(run: Path, bundle: Path, version: str | None = None) -> None:
    """Write a bundle, verify it, and only then put it in the place of an older one.

    Raises:
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
        evaluator=load_evaluator(run, features),
    )
    partial = bundle.with_name(bundle.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    manifest = write_bundle(trained, partial, version)
    check_bundle(partial, random=QUICK_CHECK, real=0)
    shutil.rmtree(bundle, ignore_errors=True)
    partial.rename(bundle)
    console.print(f"{bundle}: {manifest.name} version {manifest.version}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="directory of a finished training run")
    parser.add_argument("--bundle", type=Path, required=True, help="directory to write, replaced as a whole")
    parser.add_argument("--version", help="model version; a hash of the graphs when not given")
    arguments = parser.parse_args()
    try:
        export(arguments.run, arguments.bundle, arguments.version)
    except RerankerError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
