"""Counters, gauges and histograms that cost a request almost nothing.

A rerank makes some forty observations. prometheus_client takes a lock for each and, where several workers
share figures, writes to a mapped file. These count in plain Python; `write` brings the sums into the
library's instruments, before a scrape. For one thread: the event loop's.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Generic, Literal, TypeVar

import prometheus_client as library

Together = Literal["livesum", "livemin", "livemax"]
"""What one gauge of several workers is together; those of dead workers are left out."""


class Counter:
    """As `prometheus_client.Counter`."""

    __slots__ = ("_behind", "_written", "value")

    def __init__(self, behind: library.Counter) -> None:
        self._behind = behind
        self.value = self._written = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount

    def write(self) -> None:
        self._behind.inc(self.value - self._written)
        self._written = self.value


class Gauge:
    """As `prometheus_client.Gauge`; a function, once set, is asked at every `write`."""

    __slots__ = ("_behind", "_function", "_value")

    def __init__(self, behind: library.Gauge) -> None:
        self._behind, self._value = behind, 0.0
        self._function: Callable[[], float] | None = None

    def inc(self) -> None:
        self._value += 1.0

    def dec(self) -> None:
        self._value -= 1.0

    def set(self, value: float) -> None:
        self._value = value

    def set_function(self, function: Callable[[], float]) -> None:
        self._function = function

    def write(self) -> None:
        self._behind.set(self._value if self._function is None else self._function())


class Histogram:
    """As `prometheus_client.Histogram`. `counts` are each bucket's own, the last of what is above all."""

    __slots__ = ("_behind", "_bounds", "_sum", "_written", "counts")

    def __init__(self, behind: library.Histogram, bounds: tuple[float, ...]) -> None:
        self._behind, self._bounds = behind, bounds
        self.counts = [0] * (len(bounds) + 1)
        self._written, self._sum = list(self.counts), 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def write(self) -> None:
        # The library has no public way to add many observations at once.
        self._behind._sum.inc(self._sum)
        self._sum = 0.0
        for bucket, count, written in zip(self._behind._buckets, self.counts, self._written, strict=True):
            if count != written:
                bucket.inc(count - written)
        self._written = list(self.counts)


Family = library.Counter | library.Gauge | library.Histogram
Instrument = TypeVar("Instrument", bound=Counter | Gauge | Histogram)


class Labelled(Generic[Instrument]):
    """The instruments of one name, by the values of their labels. Each is made when first asked for."""

    __slots__ = ("_family", "_made", "_make")

    def __init__(self, family: Family, make: Callable[[tuple[str, ...]], Instrument]) -> None:
        self._family, self._make, self._made = family, make, dict[tuple[str, ...], Instrument]()

    def labels(self, *values: str) -> Instrument:
        found = self._made.get(values)
        if found is None:
            found = self._made[values] = self._make(values)
        return found

    def remove(self, *values: str) -> None:
        """Forget an instrument and its series. Not between workers: the library cannot take theirs back."""
        if self._made.pop(values, None) is not None:
            self._family.remove(*values)

    def write(self) -> None:
        for instrument in self._made.values():
            instrument.write()


class Instruments:
    """Makes instruments of one registry, and writes them all.

    `initial` are values of a family's only label that are there from the start, at 0: what has not happened
    yet can be told from what is not counted, and the first time it happens is seen as an increase.
    """

    def __init__(self, registry: library.CollectorRegistry, prefix: str) -> None:
        self._registry, self._prefix = registry, prefix
        self._all: list[
            Counter | Gauge | Histogram | Labelled[Counter] | Labelled[Gauge] | Labelled[Histogram]
        ]
        self._all = []

    def counter(self, name: str, text: str) -> Counter:
        made = Counter(library.Counter(self._prefix + name, text, registry=self._registry))
        self._all.append(made)
        return made

    def counters(self, name: str, text: str, *labels: str, initial: Iterable[str] = ()) -> Labelled[Counter]:
        family = library.Counter(self._prefix + name, text, labels, registry=self._registry)
        made = Labelled(family, lambda values: Counter(family.labels(*values)))
        self._all.append(made)
        for value in initial:
            made.labels(value)
        return made

    def gauge(self, name: str, text: str, together: Together) -> Gauge:
        made = Gauge(
            library.Gauge(self._prefix + name, text, registry=self._registry, multiprocess_mode=together)
        )
        self._all.append(made)
        return made

    def gauges(self, name: str, text: str, together: Together, *labels: str) -> Labelled[Gauge]:
        family = library.Gauge(
            self._prefix + name, text, labels, registry=self._registry, multiprocess_mode=together
        )
        made = Labelled(family, lambda values: Gauge(family.labels(*values)))
        self._all.append(made)
        return made

    def histogram(self, name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        behind = library.Histogram(self._prefix + name, text, buckets=bounds, registry=self._registry)
        made = Histogram(behind, bounds)
        self._all.append(made)
        return made

    def histograms(
        self, name: str, text: str, bounds: tuple[float, ...], *labels: str, initial: Iterable[str] = ()
    ) -> Labelled[Histogram]:
        family = library.Histogram(self._prefix + name, text, labels, buckets=bounds, registry=self._registry)
        made = Labelled(family, lambda values: Histogram(family.labels(*values), bounds))
        self._all.append(made)
        for value in initial:
            made.labels(value)
        return made

    def write(self) -> None:
        for instrument in self._all:
            instrument.write()
