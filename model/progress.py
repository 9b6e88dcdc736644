"""The console that long work reports to."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

WIDTH = 120
"""Columns where there is no terminal to ask."""

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = WIDTH

T = TypeVar("T")


def progress(rows: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """A progress bar that leaves nothing behind; silent where there is no terminal."""
    return track(rows, description, total, console=console, transient=True, disable=not console.is_terminal)
