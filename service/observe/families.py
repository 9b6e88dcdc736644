"""Metric families as plain data: counted in by one process, written to its file, added up, exposed.

A process counts in a family's lists (see `instruments`). Processes that answer for each other each write a
file into one directory, and whichever is scraped adds up all of them. Files are replaced, never changed in
place: readers always find a complete one, and a full disk is an error instead of a signal.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Literal

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

SUFFIX = ".families"
"""Of the files; other files in the directory are left alone."""

Kind = Literal["counter", "gauge", "histogram"]
Together = Literal["sum", "min", "max"]
LabelValues = tuple[str, ...]
Figures = list[float]
"""Of one series: its value, or a histogram's sum followed by the count of each bucket, not cumulative."""

COMBINE: dict[Together, Callable[[float, float], float]] = {"sum": operator.add, "min": min, "max": max}


class Family(msgspec.Struct):
    """All series of one name.

    Attributes:
        labels: their names.
        together: how a series of several processes is combined.
        bounds: upper bounds of a histogram's buckets, without infinity.
        retired: counts of series that this process no longer shows. They are added to what other processes
            show, because Prometheus takes a falling sum for a restart.
    """

    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    together: Together = "sum"
    bounds: tuple[float, ...] = ()
    series: dict[LabelValues, Figures] = {}
    retired: dict[LabelValues, Figures] = {}

    def figures(self, labels: LabelValues) -> Figures:
        """A series to count in; at first zeros."""
        if labels not in self.series:
            zeros = [0.0] * (len(self.bounds) + 2 if self.kind == "histogram" else 1)
            self.series[labels] = self.retired.pop(labels, zeros)
        return self.series[labels]


Families = dict[str, Family]

encode = msgspec.msgpack.Encoder(enc_hook=float).encode  # what NumPy counted is a number too
decode = msgspec.msgpack.Decoder(Families).decode


def write(path: Path, families: bytes) -> None:
    """Replace a process's file. Raises: OSError."""
    new = path.with_suffix(".new")
    new.write_bytes(families)
    new.replace(path)


def read_others(path: Path) -> Iterator[Families]:
    """What the other processes that share the directory of a file wrote last."""
    for other in sorted(path.parent.glob(f"*{SUFFIX}")):
        if other != path:
            yield decode(other.read_bytes())


def bury(path: Path) -> None:
    """Remove a dead process's gauges from its file; its counts stay. Raises: OSError."""
    if path.exists():
        families = decode(path.read_bytes())
        write(path, encode({name: family for name, family in families.items() if family.kind != "gauge"}))


def add_up(processes: Iterable[Families]) -> Families:
    """The families of several processes combined."""
    total: Families = {}
    for families in processes:
        for name, family in families.items():
            whole = total.setdefault(name, msgspec.structs.replace(family, series={}, retired={}))
            _add(whole, whole.series, family.series)
            _add(whole, whole.retired, family.retired)
    for family in total.values():
        _add(
            family, family.series, {key: family.retired[key] for key in family.series & family.retired.keys()}
        )
    return total


def _add(family: Family, known: dict[LabelValues, Figures], more: dict[LabelValues, Figures]) -> None:
    combine = COMBINE[family.together]
    for labels, figures in more.items():
        known[labels] = list(map(combine, known[labels], figures)) if labels in known else figures


class Exposed(Collector):
    """Families as prometheus_client collects them."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            if family.series:
                yield _metric(name, family)


def _metric(name: str, family: Family) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(name, family.text, labels=family.labels)
        bounds = [*map(floatToGoString, family.bounds), "+Inf"]
        for labels, (total, *counts) in family.series.items():
            histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        return histogram
    made = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    plain = made(name, family.text, labels=family.labels)
    for labels, (value,) in family.series.items():
        plain.add_metric(labels, value)
    return plain
