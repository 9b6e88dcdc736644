"""The files that deploy the images, as objects."""

from typing import Any

import pytest
import yaml
from dockerfile import ROOT


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, Any]:
    """The objects that are applied, by kind."""
    folder = ROOT / "deploy/kubernetes"
    applied = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {*applied, "kustomization.yaml"} == {file.name for file in folder.iterdir()}
    return {
        part["kind"]: part for name in applied for part in yaml.safe_load_all((folder / name).read_text())
    }


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    file: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return file
