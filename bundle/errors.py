"""The root of every error of this project. Each room's own errors stand in the room, below it."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MOST_TOLD = 500
"""Characters: keys of a file may be of any length."""


class RerankerError(Exception):
    """Something that is told to whoever called or configured us; the message is for them."""


def in_a_line(error: ValidationError) -> str:
    """The first fault of a document: its key, and what was expected there."""
    return fault_in_a_line(error.errors(include_url=False, include_input=False, include_context=False)[0])


def fault_in_a_line(fault: ErrorDetails) -> str:
    """One fault of a document: its key, and what was expected there."""
    place = ".".join(map(str, fault["loc"]))
    told = fault["msg"].removeprefix("Value error, ")
    return " ".join(f"{place}: {told}".removeprefix(": ").split())[:MOST_TOLD]


@contextmanager
def faults_told(*more: type[Exception]) -> Iterator[None]:
    """Around what a command does: a fault is one line, and exit code 1. So is a file that cannot be read or
    written, and `more`."""
    kinds: tuple[type[Exception], ...] = (RerankerError, *more)
    try:
        yield
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        raise SystemExit(f"{place}{error.strerror or error}") from None
    except kinds as error:
        raise SystemExit(str(error)) from None
