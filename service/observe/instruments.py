"""Counters, gauges and histograms that cost a request almost nothing.

A rerank makes some forty observations. prometheus_client takes a lock for each and, where several workers
share figures, writes to a mapped file. These add to a number in a list, which `families` brings to
Prometheus at a scrape. For one thread: the event loop's.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from service.observe.families import Families, Family, Figures, Kind, LabelValues, Together, encode

PREFIX = "rerank_"


class Counter:
    """As `prometheus_client.Counter`."""

    __slots__ = ("_figures",)

    def __init__(self, family: Family, labels: LabelValues) -> None:
        self._figures = family.figures(labels)

    def inc(self, amount: float = 1.0) -> None:
        self._figures[0] += amount

    @property
    def value(self) -> float:
        return self._figures[0]


class Gauge(Counter):
    """As `prometheus_client.Gauge`."""

    __slots__ = ()

    def dec(self) -> None:
        self._figures[0] -= 1.0

    def set(self, value: float) -> None:
        self._figures[0] = float(value)


class Histogram:
    """As `prometheus_client.Histogram`."""

    __slots__ = ("_bounds", "_figures")

    def __init__(self, family: Family, labels: LabelValues) -> None:
        self._bounds, self._figures = family.bounds, family.figures(labels)

    def observe(self, value: float) -> None:
        figures = self._figures
        figures[0] += value
        figures[bisect_left(self._bounds, value) + 1] += 1.0

    @property
    def counts(self) -> Figures:
        """Each bucket's own, the last of what is above all bounds."""
        return self._figures[1:]


Instrument = TypeVar("Instrument", bound=Counter | Histogram)


class Labelled(Generic[Instrument]):
    """The instruments of one name, by the values of their labels. Each is made when first asked for."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[LabelValues], Instrument], initial: Iterable[str]) -> None:
        self._make = make
        self._made: dict[LabelValues, Instrument] = {(value,): make((value,)) for value in initial}

    def labels(self, *values: str) -> Instrument:
        found = self._made.get(values)
        if found is None:
            found = self._made[values] = self._make(values)
        return found


class Instruments:
    """Makes instruments of one process.

    `constant` labels are on all of them. `initial` are values of a family's only other label that are there
    from the start, at 0: what has not happened yet can be told from what is not counted, and the first time
    it happens is seen as an increase.
    """

    def __init__(self, families: Families | None = None, **constant: str) -> None:
        """
        Args:
            families: counts of an earlier process, to continue from.
        """
        self._families: Families = {} if families is None else families
        self._constant = constant

    def labelled(self, **constant: str) -> "Instruments":
        """A maker that adds these labels, into the same families."""
        return Instruments(self._families, **self._constant, **constant)

    def encoded(self) -> bytes:
        """All series as they are now, for `families.decode`."""
        return encode(self._families)

    def remove(self, *kinds: Kind, retire: bool = False) -> None:
        """Stop showing series with the constant labels.

        Args:
            retire: keep the counts, for other processes may still show these series.
        """
        names, values = tuple(self._constant), tuple(self._constant.values())
        count = len(names)
        for family in self._families.values():
            if family.kind not in kinds or family.labels[:count] != names:
                continue
            for labels in [labels for labels in family.series if labels[:count] == values]:
                figures = family.series.pop(labels)
                if retire and family.kind != "gauge":
                    family.retired[labels] = figures

    def counter(self, name: str, text: str) -> Counter:
        return self._one(Counter, self._family("counter", name, text))

    def counters(self, name: str, text: str, *labels: str, initial: Iterable[str] = ()) -> Labelled[Counter]:
        return self._some(Counter, self._family("counter", name, text, labels), initial)

    def gauge(self, name: str, text: str, together: Together) -> Gauge:
        return self._one(Gauge, self._family("gauge", name, text, together=together))

    def gauges(self, name: str, text: str, together: Together, *labels: str) -> Labelled[Gauge]:
        return self._some(Gauge, self._family("gauge", name, text, labels, together=together))

    def histogram(self, name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        return self._one(Histogram, self._family("histogram", name, text, bounds=bounds))

    def histograms(
        self, name: str, text: str, bounds: tuple[float, ...], *labels: str, initial: Iterable[str] = ()
    ) -> Labelled[Histogram]:
        return self._some(Histogram, self._family("histogram", name, text, labels, bounds=bounds), initial)

    def _family(
        self,
        kind: Kind,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        together: Together = "sum",
        bounds: tuple[float, ...] = (),
    ) -> Family:
        made = Family(kind, text, (*self._constant, *labels), together, bounds)
        return self._families.setdefault(PREFIX + name, made)

    def _one(self, kind: Callable[[Family, LabelValues], Instrument], family: Family) -> Instrument:
        return kind(family, tuple(self._constant.values()))

    def _some(
        self,
        kind: Callable[[Family, LabelValues], Instrument],
        family: Family,
        initial: Iterable[str] = (),
    ) -> Labelled[Instrument]:
        constant = tuple(self._constant.values())
        return Labelled(lambda values: kind(family, (*constant, *values)), initial)
