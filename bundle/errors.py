"""The root of every error of this project. Each room's own errors stand in the room, below it."""


class RerankerError(Exception):
    """Something that is told to whoever called or configured us; the message is for them."""
