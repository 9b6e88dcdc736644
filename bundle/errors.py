"""The root of every error of this project. Each room's own errors stand in the room, below it."""

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
