"""Where data lies: `EGLR_DATA_DIR`, else `../shared/data`, else downloaded and verified.

Data is never part of the project. Standard library and rich only.
"""

import os
import urllib.request
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from bundle.errors import RerankerError
from bundle.manifest import sha256

ROOT = Path(__file__).resolve().parents[2]
DOWNLOADS = ROOT / "data"
TIMEOUT_S = 30


class PublicFile(NamedTuple):
    """A file with a public address. `path` is relative to a data directory."""

    path: str
    url: str
    sha256: str


class DataUnavailableError(RerankerError):
    """The data is neither here nor downloadable; the message says what to do."""


def locate(file: PublicFile) -> Path:
    """The local path of a public file, downloaded if needed.

    Raises:
        DataUnavailableError: not here and not to be downloaded, or its sha256 is another one.
    """
    asked = os.environ.get("EGLR_DATA_DIR")
    for directory in (Path(asked),) if asked else (ROOT.parent / "shared" / "data", DOWNLOADS):
        if (directory / file.path).is_file():
            return _verified(directory / file.path, file)
    target = (Path(asked) if asked else DOWNLOADS) / file.path
    try:
        _download(file.url, target)
    except OSError as error:
        raise DataUnavailableError(
            f"{file.path} is not in {target.parent} and could not be downloaded from {file.url} ({error}).\n"
            "Fetch it by hand and set EGLR_DATA_DIR to the directory that holds "
            f"{file.path}, or use the simulator, which needs no data: --config configs/simulator.toml"
        ) from error
    return _verified(target, file)


def _verified(path: Path, file: PublicFile) -> Path:
    found = sha256(path)
    if found != file.sha256:
        raise DataUnavailableError(
            f"{path}: sha256 is {found}, expected {file.sha256}; delete it and try again"
        )
    return path


def _download(url: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(target.suffix + ".part")
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, Progress() as progress:
        size = response.headers.get("Content-Length")
        task = progress.add_task(f"downloading {target.name}", total=int(size) if size else None)
        with partial.open("wb") as file:
            while chunk := response.read(1 << 16):
                file.write(chunk)
                progress.update(task, advance=len(chunk))
    partial.replace(target)
