"""What to install for some extras of pyproject.toml, one requirement per line: `requirements.py cpu otel`.

With `--only` as the first word, only the extras, for images that need nothing else of the project. Images
copy the sources instead of installing the project. Standard library only.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str], only: bool = False) -> list[str]:
    """The project's dependencies, unless `only`, and those of the extras, one per line.

    Raises:
        SystemExit: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    optional: dict[str, list[str]] = project["optional-dependencies"]
    wanted = " ".join(extras).split()
    if unknown := set(wanted) - set(optional):
        raise SystemExit(f"no such extra: {', '.join(sorted(unknown))}; there are {', '.join(optional)}")
    own: list[str] = [] if only else project["dependencies"]
    return [*own, *(line for extra in wanted for line in optional[extra])]


if __name__ == "__main__":
    only = sys.argv[1:2] == ["--only"]
    print(*requirements(Path("pyproject.toml"), sys.argv[1 + only :], only), sep="\n")
