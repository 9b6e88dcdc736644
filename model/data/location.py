"""Where data lies: `EGLR_DATA_DIR`, else `../shared/data` or `data`, else downloaded and verified.

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
    """A file of a public log. `path` is relative to a data directory, `url` None if it is not downloaded."""

    path: str
    url: str | None
    sha256: str


class DataUnavailableError(RerankerError):
    """The data is neither here nor downloadable; the message says what to do."""


def locate(file: PublicFile) -> Path:
    """The local path of a public file, downloaded if needed.

    Raises:
        DataUnavailableError: not here and not to be downloaded, or its sha256 is another one.
    """
    directories = _directories()
    for directory in directories:
        if (directory / file.path).is_file():
            return _verified(directory / file.path, file)
    if file.url is None:
        raise DataUnavailableError(f"{file.path} is not in {_named(directories)}")
    target = directories[-1] / file.path
    try:
        _download(file.url, target)
    except OSError as error:
        raise DataUnavailableError(
            f"{file.path} is not in {target.parent} and could not be downloaded from {file.url} ({error}).\n"
            "Fetch it by hand and set EGLR_DATA_DIR to the directory that holds "
            f"{file.path}, or use the simulator, which needs no data: --config configs/simulator.toml"
        ) from error
    return _verified(target, file)


def directory_of(name: str, upstream: str) -> Path:
    """Where a log that comes unpacked lies: the folder `name` of a data directory.

    Raises:
        DataUnavailableError: there is none.
    """
    directories = _directories()
    for directory in directories:
        if (directory / name).is_dir():
            return directory / name
    raise DataUnavailableError(
        f"no folder {name} in {_named(directories)}; get {upstream}, and set EGLR_DATA_DIR to the directory "
        f"that holds {name}, or `directory` in the configuration to the folder itself"
    )


def _directories() -> tuple[Path, ...]:
    """Where to look, in this order; downloads go to the last."""
    asked = os.environ.get("EGLR_DATA_DIR")
    return (Path(asked),) if asked else (ROOT.parent / "shared" / "data", DOWNLOADS)


def _named(directories: tuple[Path, ...]) -> str:
    return " or ".join(map(str, directories))


def _verified(path: Path, file: PublicFile) -> Path:
    found = sha256(path)
    if found != file.sha256:
        raise DataUnavailableError(
            f"{path}: sha256 is {found}, expected {file.sha256}; delete it and try again"
        )
    return path


def _download(url: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f"{target.suffix}.{os.getpid()}.part")  # others may be at it too
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, Progress() as progress:
        size = response.headers.get("Content-Length")
        task = progress.add_task(f"downloading {target.name}", total=int(size) if size else None)
        with partial.open("wb") as file:
            while chunk := response.read(1 << 16):
                file.write(chunk)
                progress.update(task, advance=len(chunk))
    partial.replace(target)
