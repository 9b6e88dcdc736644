"""The console that long work reports to."""

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import track

WIDTH = 120
"""Columns where there is no terminal to ask."""

LINE_S = 60.0
"""Seconds between lines where there is no terminal for a bar."""

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = WIDTH

T = TypeVar("T")


def progress(rows: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """A progress bar that leaves nothing behind; where there is no terminal, a line now and then."""
    if console.is_terminal:
        return track(rows, description, total, console=console, transient=True)
    return _lines(rows, description, len(rows) if total is None and isinstance(rows, Sized) else total)


def _lines(rows: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    told = time.monotonic()
    for done, row in enumerate(rows):
        if time.monotonic() - told >= LINE_S:
            console.print(f"{description}: {done:,}" + (f" of {total:,}" if total is not None else ""))
            told = time.monotonic()
        yield row


def duration(seconds: float) -> str:
    """Rounded up: seconds below two minutes, minutes below two hours."""
    for size, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if seconds < 120 * size or unit == "h":
            break
    return f"{-(-seconds // size):.0f} {unit}"
