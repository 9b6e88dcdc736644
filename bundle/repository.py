"""Where bundles lie: `NAME/VERSION/`, one folder a version, and the link `NAME/current` to the one to serve.

A version is written once and never changed in place, so that whoever serves it can open it again at any time.

    python -m bundle.repository bundles/ranklens                # its versions, the current one marked
    python -m bundle.repository bundles/ranklens --current 7    # the one to serve from the next (re)load on
"""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from bundle.errors import faults_told
from bundle.manifest import MANIFEST, BundleError

CURRENT = "current"
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")


def locate(path: Path) -> Path:
    """The bundle that a path names: the current version of a model's folder, else the path itself.

    Raises:
        BundleError: the current version is not there.
    """
    link = path / CURRENT
    if not link.is_symlink():
        return path
    if not (link / MANIFEST).is_file():
        raise BundleError(f"{link}: names {os.readlink(link)}, where no bundle is")
    return link.resolve()


def versions(folder: Path) -> list[str]:
    """Of a model, the oldest first."""
    found = [path.parent for path in folder.glob(f"*/{MANIFEST}") if path.parent.name != CURRENT]
    return [path.name for path in sorted(found, key=lambda path: (path / MANIFEST).stat().st_mtime)]


def marked(version: str, mark: str, value: str) -> str:
    """The name of a version in which something was changed, such as `7+h0.4` or `7+h0.4+c1f`: of two changes
    with the same mark, a letter, it tells the last."""
    name, *marks = version.split("+")
    return "+".join((name, *(one for one in marks if not one.startswith(mark)), f"{mark}{value}"))


def publish(written: Path, folder: Path, version: str) -> Path:
    """Move a bundle that has been written beside a model's folder, or in it, to where its version belongs.

    Raises:
        BundleError: that version is there already, or cannot be a folder's name.
    """
    target = folder / _checked(version)
    if target.exists():
        raise BundleError(f"{target}: there already, and versions are never replaced; give --version another")
    folder.mkdir(parents=True, exist_ok=True)
    written.rename(target)
    return target


def point(folder: Path, version: str) -> None:
    """Make a version the current one, from one moment to the next.

    Raises:
        BundleError: there is no such version.
    """
    if not (folder / _checked(version) / MANIFEST).is_file():
        raise _missing(folder, version)
    new = folder / f".{CURRENT}-{os.getpid()}"
    new.unlink(missing_ok=True)
    new.symlink_to(version)
    new.replace(folder / CURRENT)


class Repository:
    """What can be served from a path: a bundle, the versions of one model, or a folder of such models."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def current(self) -> list[Path]:
        """The bundles to serve: the current version of every model.

        Raises:
            BundleError: the current version of a model is not there.
        """
        if not self._holds_models:
            return [locate(self._path)]
        return [locate(folder) for folder in self._models()]

    def find(self, name: str, version: str) -> Path:
        """Where a version of a model is. Whether the bundle agrees is for its reader to see.

        Raises:
            BundleError: it is not there, or there are no versions here.
        """
        if not self._holds_models and not (self._path / CURRENT).is_symlink():
            raise BundleError(f"{self._path}: a bundle by itself, with no other versions beside it")
        folder = self._path / _checked(name) if self._holds_models else self._path
        if not (folder / _checked(version) / MANIFEST).is_file():
            raise _missing(folder, version)
        return (folder / version).resolve()

    @property
    def _holds_models(self) -> bool:
        here = (self._path / CURRENT).is_symlink() or (self._path / MANIFEST).exists()
        return not here and bool(self._models())

    def _models(self) -> list[Path]:
        """Their folders; `glob` would leave out those whose link leads nowhere."""
        if not self._path.is_dir():
            return []
        return sorted(folder for folder in self._path.iterdir() if os.path.lexists(folder / CURRENT))


def _missing(folder: Path, version: str) -> BundleError:
    there = ", ".join(versions(folder)) or "none"
    return BundleError(f"{folder}: no version {version}; there are {there}")


def _checked(name: str) -> str:
    if name == CURRENT or _FOLDER.fullmatch(name) is None:
        raise BundleError(f"{name!r} cannot be a folder's name: letters, digits and . _ + - are allowed")
    return name


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bundle.repository", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="of one model")
    parser.add_argument("--current", metavar="VERSION", help="make this the version to serve")
    given = parser.parse_args(arguments)
    with faults_told():
        if given.current is not None:
            point(given.folder, given.current)
        serving, there = locate(given.folder).name, versions(given.folder)
        if not there:
            raise BundleError(f"{given.folder}: no versions of a model are here")
    for version in there:
        print(version, "(current)" if version == serving else "")


if __name__ == "__main__":
    main()
