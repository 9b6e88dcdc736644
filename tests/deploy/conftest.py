"""The files that deploy the images, as objects."""

from typing import Any

import pytest
import yaml
from dockerfile import ROOT, command

from service.__main__ import read_settings
from service.settings import Settings


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, Any]:
    """The objects that are applied, by kind."""
    folder = ROOT / "deploy/kubernetes"
    applied = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {*applied, "kustomization.yaml"} == {file.name for file in folder.glob("*.yaml")}
    return {
        part["kind"]: part for name in applied for part in yaml.safe_load_all((folder / name).read_text())
    }


@pytest.fixture
def image_settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of the image's command, with what everybody has to say besides."""
    with pytest.raises(SystemExit):
        read_settings(command()[3:])
    monkeypatch.setenv("RERANK_ALLOW_ANONYMOUS", "true")
    return read_settings(command()[3:])


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    file: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return file
