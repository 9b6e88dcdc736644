"""What to install for some extras of pyproject.toml, one requirement a line: `requirements.py cpu otel`.

For images, which copy the sources instead of installing the project. Standard library only.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """The project's dependencies and those of the extras, each a name or several between spaces.

    Raises:
        SystemExit: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    optional: dict[str, list[str]] = project["optional-dependencies"]
    wanted = " ".join(extras).split()
    if unknown := set(wanted) - set(optional):
        raise SystemExit(f"no such extra: {', '.join(sorted(unknown))}; there are {', '.join(optional)}")
    return [*project["dependencies"], *(line for extra in wanted for line in optional[extra])]


if __name__ == "__main__":
    print(*requirements(Path("pyproject.toml"), sys.argv[1:]), sep="\n")
