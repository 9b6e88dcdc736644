"""What a result was measured on, and where results are kept."""

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from export.provenance import commit, hardware

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench/results"
SERVER_CORE, CLIENT_CORE = 0, 1


def versions(*packages: str) -> dict[str, str]:
    """Of Python and of installed packages."""
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def keep(name: str, results: dict[str, Any], *packages: str, command: str) -> Path:
    """Write results as `bench/results/NAME.json`, with what they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    measured = {
        "command": command,
        "measured": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(),
        "versions": versions(*packages),
        "commit": commit(),
    }
    path.write_text(json.dumps({**measured, **results}, indent=1) + "\n")
    return path


def kept(name: str) -> dict[str, Any] | None:
    """Stored results, if there are any."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None
