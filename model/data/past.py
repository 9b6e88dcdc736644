"""What a user was shown and did, list after list, without a copy for each list.

A user of n lists has n histories, each longer than the one before: copies would grow with the square of n.
"""

from collections.abc import Iterator, Sequence
from typing import overload

from bundle.features.history import Interaction

MOST_PAST = 10_000
"""Events of a past that a list knows, the latest; as many as a schema may ask for."""


class Past:
    """What a user was shown and did so far."""

    def __init__(self) -> None:
        self.events: list[Interaction] = []
        self._settled, self._timestamp = 0, float("-inf")

    def before(self, timestamp: float) -> Sequence[Interaction]:
        """Events of lists earlier than this one; times are asked for in ascending order."""
        if timestamp > self._timestamp:
            self._settled, self._timestamp = len(self.events), timestamp
        return _part(self.events, self._settled)

    def all(self) -> Sequence[Interaction]:
        """Every event so far."""
        return _part(self.events, len(self.events))


class _Part(Sequence[Interaction]):
    """Some of a list that goes on growing."""

    def __init__(self, events: Sequence[Interaction], start: int, stop: int) -> None:
        self._events, self._start, self._stop = events, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[Interaction]:
        return iter(self._events[self._start : self._stop])

    @overload
    def __getitem__(self, index: int) -> Interaction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Interaction]: ...
    def __getitem__(self, index: int | slice) -> Interaction | Sequence[Interaction]:
        if isinstance(index, slice):
            return tuple(self)[index]
        return self._events[range(self._start, self._stop)[index]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def _part(events: Sequence[Interaction], stop: int) -> Sequence[Interaction]:
    """The latest `MOST_PAST` of the events up to an index."""
    return _Part(events, max(0, stop - MOST_PAST), stop) if stop else ()
