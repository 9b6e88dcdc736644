"""Which code is run."""

import subprocess
from functools import cache


@cache
def commit() -> str:
    """The commit that is run, marked when files other than pages and results differ from it."""
    name = _git("rev-parse", "--short=8", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":(exclude)docs", ":(exclude)*.md")
    return f"{name or 'unknown'}{'-dirty' if changed else ''}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()
