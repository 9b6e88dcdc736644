"""What a result was measured on, and where results are kept."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench/results"
SERVER_CORE, CLIENT_CORE = 0, 1


def hardware() -> str:
    """Such as `2-core AMD EPYC, 24 GiB, no GPU`."""
    gibibytes = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    gpu = "with GPU" if Path("/dev/nvidia0").exists() else "no GPU"
    return f"{os.cpu_count()}-core {_processor()}, {gibibytes} GiB, {gpu}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip().removesuffix(" Processor")
    return platform.machine()


def versions(*packages: str) -> dict[str, str]:
    """Of Python and of installed packages."""
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def commit() -> str:
    """Short hash of the checked-out commit, with a plus when files differ from it; `unknown` without git."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        changed = _git(
            "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results", ":!docs"
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


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
