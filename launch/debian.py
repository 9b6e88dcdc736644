"""Programs that tests need and pip does not bring: `python -m launch.debian chromium haproxy nginx`.

Found on the PATH, else installed from Debian's package where this is Debian and the user is root.
"""

import os
import shutil
import subprocess
import sys

NAMES = {"chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")}
"""Of a program, where it has others than its package."""


class ProgramMissingError(Exception):
    """Neither found nor to be had; the message says what to install."""


def find(package: str) -> str | None:
    """The path of its program, if there is one."""
    names = NAMES.get(package, (package,))
    return next((path for name in names if (path := shutil.which(name)) is not None), None)


def program(package: str) -> str:
    """The path of its program, installed if it has to be.

    Raises:
        ProgramMissingError: there is none, and none can be installed.
    """
    if (found := find(package)) is not None:
        return found
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ProgramMissingError(f"no {package} on the PATH, and only root on Debian can install one")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    # A runlevel of 1 keeps Debian from starting what it installs.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    if subprocess.run(install, env=environment, stdout=sys.stderr, check=False).returncode:
        subprocess.run(["apt-get", "update", "-qq"], stdout=sys.stderr, check=False)
        subprocess.run(install, env=environment, stdout=sys.stderr, check=False)
    if (found := find(package)) is None:
        raise ProgramMissingError(f"`apt-get install {package}` did not bring a {package}")
    return found


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        try:
            print(program(wanted))
        except ProgramMissingError as error:
            print(error, file=sys.stderr)  # and the tests that need it say so, too, and are skipped
