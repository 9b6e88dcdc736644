"""Chromium, for the tests of pages: `python -m launch.browser` makes sure that there is one.

Found on the PATH, else installed from Debian's package where this is Debian and the user is root.
"""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = (
    "--no-sandbox",  # root has none, and it sees this machine's pages alone
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class BrowserMissingError(Exception):
    """Neither found nor to be had; the message says what to install."""


def chromium() -> str:
    """Its path, installed if it has to be.

    Raises:
        BrowserMissingError
    """
    if (found := _found()) is not None:
        return found
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise BrowserMissingError(
            f"no browser: none of {', '.join(NAMES)} is on the PATH, and only root on Debian can install one"
        )
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(install, env=environment, stdout=sys.stderr, check=False).returncode:
        subprocess.run(["apt-get", "update", "-qq"], stdout=sys.stderr, check=False)
        subprocess.run(install, env=environment, stdout=sys.stderr, check=False)
    if (found := _found()) is None:
        raise BrowserMissingError("no browser: `apt-get install chromium` did not bring one")
    return found


def _found() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


if __name__ == "__main__":
    try:
        print(chromium())
    except BrowserMissingError as error:
        print(error, file=sys.stderr)  # and the tests of pages say so, too, and are skipped
