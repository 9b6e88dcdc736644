"""deploy.container_test, as far as a machine without containers goes."""

import os
import subprocess
import sys
from pathlib import Path

from dockerfile import ROOT


def test_the_container_test_says_what_it_lacks(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "deploy.container_test"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "buildah, conmon, debootstrap, podman, runc" in run.stderr
