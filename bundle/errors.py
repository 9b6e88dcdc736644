"""The root of every error of this project. Each room's own errors stand in the room, below it."""

from pydantic import ValidationError

MOST_TOLD = 500
"""Characters: keys of a file may be of any length."""


class RerankerError(Exception):
    """Something that is told to whoever called or configured us; the message is for them."""


def in_a_line(error: ValidationError) -> str:
    """The first fault of a document: its key, and what was expected there."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    told = first["msg"].removeprefix("Value error, ")
    return " ".join(f"{place}: {told}".removeprefix(": ").split())[:MOST_TOLD]
