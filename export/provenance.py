"""What a figure was measured on: the machine and the commit."""

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


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


@cache
def commit() -> str:
    """Short hash of the checked-out commit, with a plus when files differ from it; `unknown` without git.

    Results and documents do not count as differences.
    """
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
