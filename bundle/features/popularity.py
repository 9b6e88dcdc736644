"""What is known of items at a time from events before it: counts in windows, since when, mean values.

The events are those of the training log, and come with the catalogue. A request after the last of them sees
the counts of that moment: they stay what they were when the model was exported, and do not fade to nothing.
Legend: X candidates or history events, P fields, E events.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bundle.compiled import compiled
from bundle.features.schema import FieldSpec

DAY_S = 86_400.0
COUNT, SINCE, MEAN = 0, 1, 2
_QUANTITIES = {"popularity": COUNT, "first_seen": SINCE, "mean_value": MEAN}


class PastEvents:
    """Positive events by item.

    Attributes:
        offsets: `[items + 1] int64`, where the events of each row of the catalogue begin, and the end.
        times: `[E] float64`, unix seconds, ascending within an item.
        totals: `[E + 1] float64`, sum of the values of all events before.
    """

    def __init__(
        self, offsets: NDArray[np.int64], times: NDArray[np.float64], totals: NDArray[np.float64]
    ) -> None:
        self.offsets, self.times, self.totals = offsets, times, totals
        self._end = np.nextafter(times.max(initial=-math.inf), math.inf)

    @classmethod
    def build(cls, items: int, events: Iterable[tuple[int, float, float]]) -> Self:
        """From `(row, unix seconds, value)` in any order."""
        found = np.array(list(events), np.float64).reshape(-1, 3)
        rows, times, values = found[np.lexsort((found[:, 1], found[:, 0]))].T
        offsets = np.searchsorted(rows, np.arange(items + 1)).astype(np.int64)
        return cls(offsets, times.copy(), np.concatenate([[0.0], values.cumsum()]))

    def extended(self, items: int, events: Iterable[tuple[int, float, float]]) -> "PastEvents":
        """With more events, as in `build`, of as many items as there are then."""
        rows = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        known = zip(rows.tolist(), self.times.tolist(), np.diff(self.totals).tolist(), strict=True)
        return PastEvents.build(items, [*known, *events])

    @property
    def is_in_order(self) -> bool:
        """Whether every row's events are among those there are."""
        ends = self.offsets[[0, -1]].tolist() == [0, len(self.times)]
        return ends and bool((np.diff(self.offsets) >= 0).all())

    def read(
        self, fields: Sequence[FieldSpec], rows: NDArray[np.int64], timestamp: float
    ) -> NDArray[np.float64]:
        """What a record would say of each field at `timestamp`, of events strictly before it: a count, unix
        seconds, a mean; NaN where there is none. `[X, P]`."""
        windows = [field.window_days * DAY_S if field.window_days else math.inf for field in fields]
        quantities = [_QUANTITIES[field.kind] for field in fields]
        found = np.empty((len(rows), len(fields)))
        as_of = min(timestamp, self._end)
        columns = np.array(quantities), np.array(windows)
        read_past(self.offsets, self.times, self.totals, rows, as_of, *columns, found)
        return found


@compiled
def read_past(offsets, times, totals, rows, as_of, quantities, windows, found):  # type: ignore[no-untyped-def]
    """`PastEvents.read`; `quantities` and `windows`, in seconds, are `[P]`. An unknown item has no events."""
    for index in range(rows.shape[0]):
        row = rows[index]
        start, stop = (offsets[row], offsets[row + 1]) if row >= 0 else (0, 0)
        before = start + np.searchsorted(times[start:stop], as_of)
        for field in range(quantities.shape[0]):
            value = np.nan
            if quantities[field] == COUNT:
                since = start + np.searchsorted(times[start:before], as_of - windows[field])
                value = float(before - since)
            elif before > start and quantities[field] == SINCE:
                value = times[start]
            elif before > start:
                value = (totals[before] - totals[start]) / (before - start)
            found[index, field] = value
