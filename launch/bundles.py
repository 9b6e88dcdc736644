"""Bundles by other names and versions, to serve several of one; and a bundle as a command's only argument."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

MANIFEST, CURRENT = "manifest.json", "current"


def located(path: Path) -> Path:
    """The bundle itself, where a model's folder is given: its current version."""
    return path / CURRENT if (path / CURRENT).is_dir() else path


def copied(bundle: Path, models: Path, name: str, version: str, **changes: Any) -> Path:
    """A bundle as this version of that model, in a folder of models. Changes are of its manifest."""
    target = models / name / version
    shutil.copytree(located(bundle), target)
    manifest = json.loads((bundle / MANIFEST).read_text()) | {"name": name, "version": version}
    (target / MANIFEST).write_text(json.dumps(manifest | changes))
    return target


def bundle_argument(description: str | None) -> Path:
    """The bundle that a command is given. It tells of itself with `--help`, and where no bundle is."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle, such as bundles/ranklens")
    bundle: Path = parser.parse_args().bundle
    if not (located(bundle) / MANIFEST).is_file():
        parser.error(f"{bundle}: no bundle here")
    return bundle
