"""Generated requests to every route, valid and invalid, held against the service's own OpenAPI document."""

import subprocess
import sysconfig
from pathlib import Path

import pytest

from launch.service import ServiceProcess

SCHEMATHESIS = Path(sysconfig.get_path("scripts")) / "schemathesis"


def conforms(bundle: Path, folder: Path, *options: str) -> None:
    """No 5xx, nothing that the document does not say, what is valid accepted and what is not refused."""
    command = [SCHEMATHESIS, "run", "--seed", "1", "--no-color", "--continue-on-failure", *options]
    with ServiceProcess(bundle, log=folder / "service.log") as service:
        run = subprocess.run(
            [*command, f"{service.url}/openapi.json"], capture_output=True, text=True, cwd=folder, check=False
        )
    assert run.returncode == 0, run.stdout


def test_a_few_requests(bundle: Path, tmp_path: Path) -> None:
    conforms(bundle, tmp_path, "--phases", "examples,fuzzing", "--max-examples", "15")


@pytest.mark.conformance
def test_ten_thousand_requests(bundle: Path, tmp_path: Path) -> None:
    conforms(bundle, tmp_path, "--max-examples", "1000")
