"""What a user was shown and did, list after list, without a copy for each list.

A user of n lists has n histories, each longer than the one before: copies would grow with the square of n.
Nor are there events: they are made of what lists showed and what came of it when somebody reads a history.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from bundle.features.history import IMPRESSION, Interaction

MOST_PAST = 10_000
"""Events of a past that a list knows, the latest; as many as a schema may ask for."""


class Happened(NamedTuple):
    """A list as it was shown, and what came of it: each item, and the type of what was done with it."""

    shown: tuple[str, ...]
    responses: tuple[tuple[str, str], ...]
    timestamp: float

    def events(self) -> Iterator[Interaction]:
        """Impressions in the order shown, then responses."""
        for item_id in self.shown:
            yield Interaction(item_id, IMPRESSION, self.timestamp)
        for item_id, kind in self.responses:
            yield Interaction(item_id, kind, self.timestamp)


class Past:
    """What a user was shown and did so far."""

    def __init__(self) -> None:
        self._lists: list[Happened] = []
        self._ends = array("q")  # of each list, events up to its last
        self._settled, self._timestamp = 0, float("-inf")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def add(self, happened: Happened) -> None:
        self._ends.append(len(self) + len(happened.shown) + len(happened.responses))
        self._lists.append(happened)

    def before(self, timestamp: float) -> int:
        """How many events are of lists earlier than this one; times are asked for in ascending order."""
        if timestamp > self._timestamp:
            self._settled, self._timestamp = len(self), timestamp
        return self._settled

    def first(self, events: int) -> Sequence[Interaction]:
        """The latest `MOST_PAST` of so many events, as they are asked for."""
        return _Part(self, max(0, events - MOST_PAST), events) if events else ()

    def between(self, start: int, stop: int) -> Iterator[Interaction]:
        """Events by number."""
        first = bisect_right(self._ends, start)
        number = self._ends[first - 1] if first else 0
        for happened in self._lists[first:]:
            for event in happened.events():
                if number >= stop:
                    return
                if number >= start:
                    yield event
                number += 1


class _Part(Sequence[Interaction]):
    """Some of a past that goes on growing."""

    __slots__ = ("_past", "_start", "_stop")

    def __init__(self, past: Past, start: int, stop: int) -> None:
        self._past, self._start, self._stop = past, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[Interaction]:
        return self._past.between(self._start, self._stop)

    @overload
    def __getitem__(self, index: int) -> Interaction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Interaction]: ...
    def __getitem__(self, index: int | slice) -> Interaction | Sequence[Interaction]:
        if isinstance(index, slice):
            return tuple(self)[index]
        number = range(self._start, self._stop)[index]
        return next(self._past.between(number, number + 1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))
