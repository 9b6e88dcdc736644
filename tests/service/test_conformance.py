"""Generated requests to every route, valid and invalid, held against the service's own OpenAPI document."""

import subprocess
import sysconfig
from pathlib import Path

import pytest

from launch.service import ServiceProcess

SCHEMATHESIS = Path(sysconfig.get_path("scripts")) / "schemathesis"
CHECKS = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503, 504]
"""
"""Strict requests with deadlines that nobody can keep are answered as the contract says."""


def conforms(bundle: Path, folder: Path, *options: str) -> None:
    """No 500, nothing that the document does not say, and what is not valid refused."""
    (folder / "schemathesis.toml").write_text(CHECKS)
    command = [SCHEMATHESIS, "run", "--seed", "1", "--no-color", "--continue-on-failure", *options]
    # A document cannot say that a matrix has a row for each item, or an id occurs once: 422 does.
    command += ["--exclude-checks", "positive_data_acceptance"]
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
