"""Drift: how far what the model meets, and what it does, is from the held-out lists it was calibrated on.

The population stability index is taken over a sliding window of lists: the histograms' counts now, less those
of a window ago. Knows nothing of requests; its memory is `PANES` snapshots.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from bundle.reference import Distribution, Reference, population_stability_index

PANES = 10
"""Steps the window slides in."""

Counts = tuple[tuple[float, ...], ...]
Signal = tuple[str, str]
"""Name and position; position is `all` for signals that are not split by it."""


def signals(reference: Reference) -> Iterator[tuple[Signal, Distribution]]:
    """What is compared: entropy of each position and of all, trigger rate, score, list size."""
    for position, entropy in enumerate(reference.entropy):
        yield ("entropy", str(position)), entropy
    yield ("entropy", "all"), _pooled(reference.entropy)
    yield ("trigger", "all"), reference.tokens
    yield ("score", "all"), reference.score
    yield ("list_size", "all"), reference.list_size


class Drift:
    """Compares a model's traffic with its reference."""

    def __init__(self, reference: Reference, counts: Callable[[], Counts], window: int) -> None:
        """
        Args:
            counts: cumulative counts, one row a signal in the order of `signals`. The last row is that of
                list sizes, which also tells how many lists there were.
            window: lists to look back on.
        """
        self._expected = list(signals(reference))
        self._counts, self._window = counts, window
        self._panes = deque([counts()])

    @property
    def lists(self) -> float:
        """How many lists the newest index is about; fewer than the window only at the start."""
        return _lists(self._counts()) - _lists(self._panes[0])

    def indices(self) -> dict[Signal, float]:
        """The index of each signal; empty until the window is full."""
        now = self._counts()
        while len(self._panes) > 1 and _lists(now) - _lists(self._panes[1]) >= self._window:
            self._panes.popleft()
        start = self._panes[0]
        if _lists(now) - _lists(self._panes[-1]) >= max(1, self._window // PANES):
            self._panes.append(now)
        if _lists(now) - _lists(start) < self._window:
            return {}
        found = {}
        for (signal, expected), first, last in zip(self._expected, start, now, strict=True):
            met = [b - a for a, b in zip(first, last, strict=True)]
            if sum(met):
                found[signal] = population_stability_index(expected.counts, met)
        return found


def _pooled(distributions: Sequence[Distribution]) -> Distribution:
    counts = tuple(map(sum, zip(*(d.counts for d in distributions), strict=True)))
    return Distribution(bounds=distributions[0].bounds, counts=counts)


def _lists(counts: Counts) -> float:
    return sum(counts[-1])
