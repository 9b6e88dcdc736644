"""Reading a bundle's manifest: what is refused, and what older bundles lack."""

import json
import shutil
from pathlib import Path

import pytest

from bundle.contract import CONTRACT_VERSION
from bundle.manifest import (
    CATALOGUE,
    DECODE,
    ENCODE,
    ENCODER,
    MANIFEST,
    POLICY,
    SLATE,
    STEP,
    BundleError,
    read_manifest,
)


@pytest.fixture
def broken(bundle: Path, tmp_path: Path) -> Path:
    """A copy, to be broken."""
    return shutil.copytree(bundle, tmp_path / "bundle")


@pytest.mark.parametrize("name", [ENCODER, SLATE, CATALOGUE, POLICY, DECODE, ENCODE])
def test_a_corrupted_file_is_refused(broken: Path, name: str) -> None:
    content = bytearray((broken / name).read_bytes())
    content[len(content) // 2] ^= 1
    (broken / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} does not match its sha256"):
        read_manifest(broken)


def test_a_missing_file_or_manifest_is_refused(broken: Path) -> None:
    (broken / STEP).unlink()
    with pytest.raises(BundleError, match=f"{STEP} is missing"):
        read_manifest(broken)
    with pytest.raises(BundleError, match="no bundle here"):
        read_manifest(broken.parent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contract_version": CONTRACT_VERSION + 1}, "step contract"),
        ({"surprise": 1}, "surprise"),
        ({"hashes": {}}, "no hash"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    broken: Path, change: dict[str, object], message: str
) -> None:
    manifest = json.loads((broken / MANIFEST).read_text())
    (broken / MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(BundleError, match=message):
        read_manifest(broken)


def test_a_bundle_from_before_there_were_curves_still_loads(broken: Path) -> None:
    manifest = json.loads((broken / MANIFEST).read_text())
    del manifest["gate"]["curve"], manifest["gate"]["reference"]
    (broken / MANIFEST).write_text(json.dumps(manifest))
    gate = read_manifest(broken).gate
    assert (gate.curve, gate.reference) == ((), None)
    assert gate.threshold == manifest["gate"]["threshold"]
