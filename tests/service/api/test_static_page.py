"""Pages of files: what others wrote in them, and that they are part of the package."""

import hashlib
import json
import tomllib
from pathlib import Path

import pytest
from rerank_client import Client

from service.api import console, openapi

FOLDERS = (console.FOLDER, openapi.PAGE)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_others_wrote_is_as_they_wrote_it(folder: Path) -> None:
    known = json.loads((folder / "vendor/vendored.json").read_text())
    files = {name: one for package in known.values() for name, one in package["files"].items()}
    assert {path.name for path in (folder / "vendor").iterdir()} == {*files, "vendored.json"}
    for name, one in files.items():
        assert hashlib.sha256((folder / "vendor" / name).read_bytes()).hexdigest() == one["sha256"], name
    for name, package in known.items():
        assert f"LICENSE.{name}" in package["files"]
        assert len(package["package_sha256"]) == 64


def test_their_files_are_part_of_the_package() -> None:
    root = console.FOLDER.parents[1]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    found = {
        path for pattern in patterns["service"] for path in (root / "service").glob(pattern) if path.is_file()
    }
    assert found == {path for folder in FOLDERS for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", ["docs", "console"])
async def test_they_load_nothing_from_elsewhere(client: Client, path: str) -> None:
    page = await client.get(f"/{path}")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "://" not in page.text + policy
    assert policy.startswith("default-src 'self'; script-src 'self'")
    assert "unsafe" not in policy
    for other in ("vendor/vendored.json", "../settings.py", "%2e%2e/settings.py"):
        assert (await client.get(f"/{path}/{other}")).status_code == 404
