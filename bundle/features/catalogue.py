"""The item catalogue: every known item, encoded once, looked up by id.

Stored in the bundle. Knows nothing of users or requests.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import read_arrays
from bundle.features.derived import write_ages
from bundle.features.fitting import FittedFeatures, Matrix, RecordEncoder, key
from bundle.features.popularity import PastEvents
from bundle.manifest import BundleError
from bundle.timestamps import in_seconds

UNKNOWN = -1
"""Row of an unknown item: the last one, all zeros."""

_PAST = ("past_offsets", "past_times", "past_totals")


class Catalogue:
    """Encoded items, one row each, and one last row of zeros for unknown items.

    Attributes:
        numbers: `[items + 1, columns] float32`, scaled; what depends on the time is written on look-up.
        tokens: `[items + 1, slots] int32`.
        born: `[items + 1, ages] float64`, unix seconds of each `age` field, NaN where missing.
        clicks, impressions: `[items + 1] float32`, counts of the training log.
        past: events that popularity is counted from; None where no field needs them.
    """

    def __init__(
        self,
        fitted: FittedFeatures,
        ids: list[str],
        numbers: NDArray[np.float32],
        tokens: NDArray[np.int32],
        born: NDArray[np.float64],
        clicks: NDArray[np.float32],
        impressions: NDArray[np.float32],
        past: PastEvents | None = None,
    ) -> None:
        self.encoder = RecordEncoder(fitted, "item")
        ages = [(field, place.start) for field, place in self.encoder.numeric_fields if field.kind == "age"]
        scales = [fitted.scales[key(field)] for field, _ in ages]
        self._age_names = [field.name for field, _ in ages]
        self._age_columns = np.array([column for _, column in ages], np.intp)
        self._age_logged = np.array([field.log for field, _ in ages], bool)
        self._age_scales = np.array([[scale.mean, scale.std] for scale in scales]).reshape(-1, 2)
        self.ids, self.numbers, self.tokens, self.born = ids, numbers, tokens, born
        self.clicks, self.impressions, self.past = clicks, impressions, past
        self._past_fields = fitted.feature_schema.past
        self._past_names = [field.name for field in self._past_fields]
        self._rows = _Rows(zip(ids, range(len(ids)), strict=True))

    @classmethod
    def build(
        cls,
        fitted: FittedFeatures,
        items: Mapping[str, Mapping[str, Any]],
        counts: Mapping[str, tuple[int, int]],
        past: PastEvents | None = None,
    ) -> Self:
        """Encode raw items.

        Args:
            items: raw record by id.
            counts: `(clicks, impressions)` by id, from training users only; absent is none.
            past: by row, in the order of `items`.
        """
        encoder = RecordEncoder(fitted, "item")
        ages = [field.name for field, _ in encoder.numeric_fields if field.kind == "age"]
        rows = len(items) + 1
        numbers = np.zeros((rows, encoder.columns), np.float32)
        tokens = np.zeros((rows, encoder.slots), np.int32)
        born = np.full((rows, len(ages)), np.nan)
        seen = np.zeros((rows, 2), np.float32)
        encoder.write_rows(list(items.values()), numbers[:-1], tokens[:-1], timestamp=0.0)
        for row, (item_id, record) in enumerate(items.items()):
            born[row] = [np.nan if record.get(name) is None else record[name] for name in ages]
            seen[row] = counts.get(item_id, (0, 0))
        clicks, impressions = seen.T.copy()
        return cls(fitted, list(items), numbers, tokens, in_seconds(born), clicks, impressions, past)

    def without(self, clicks: NDArray[np.float32], impressions: NDArray[np.float32]) -> "Catalogue":
        """The same items with some events taken out of their counts. Each `[items + 1] float32`."""
        return Catalogue(
            self.encoder.fitted,
            self.ids,
            self.numbers,
            self.tokens,
            self.born,
            self.clicks - clicks,
            self.impressions - impressions,
            self.past,
        )

    def extended(
        self,
        records: Mapping[str, Mapping[str, Any]],
        counts: Mapping[str, tuple[int, int]],
        events: Iterable[tuple[str, float, float]] = (),
    ) -> "Catalogue":
        """With more items, more known of those there are, and more counted.

        Args:
            records: raw, by id; what the record of a known item does not say stays as it is.
            counts: `(clicks, impressions)` that are added, of items that are known or in `records`.
            events: positive ones of such items: id, unix seconds, value.

        Raises:
            ValueError: a value is not of its field's kind; the message names the field.
        """
        new = [item_id for item_id in records if item_id not in self._rows]
        ids = [*self.ids, *new]
        numbers, tokens, born, clicks, impressions = (
            np.concatenate([array, np.full((len(new), *array.shape[1:]), nothing, array.dtype)])
            for array, nothing in (
                *((self.numbers, 0), (self.tokens, 0), (self.born, np.nan)),
                *((self.clicks, 0), (self.impressions, 0)),
            )
        )
        row = {item_id: number for number, item_id in enumerate(ids)}
        rows = [row[item_id] for item_id in records]
        some_numbers, some_tokens = numbers[rows], tokens[rows]
        self.encoder.write_rows(list(records.values()), some_numbers, some_tokens, timestamp=0.0)
        numbers[rows], tokens[rows] = some_numbers, some_tokens
        for item_id, record in records.items():
            for place, name in enumerate(self._age_names):
                if record.get(name) is not None:
                    born[row[item_id], place] = record[name]
        for item_id, (clicked, shown) in counts.items():
            clicks[row[item_id]] += clicked
            impressions[row[item_id]] += shown
        happened = [(row[item_id], timestamp, value) for item_id, timestamp, value in events]
        past = self.past and self.past.extended(len(ids), happened)
        return Catalogue(self.encoder.fitted, ids, numbers, tokens, born, clicks, impressions, past)

    def rows(self, item_ids: Iterable[str]) -> NDArray[np.int64]:
        """Row of each id, UNKNOWN where it is not in the catalogue. `[n] int64`."""
        return np.array(list(map(self._rows.__getitem__, item_ids)), np.int64)

    def write_as_of(self, numbers: NDArray[np.float32], rows: NDArray[np.int64], timestamp: float) -> None:
        """Overwrite the columns that depend on the time: ages, and what was counted until then.
        `[n, columns] float32`."""
        columns, logged, scales = self._age_columns, self._age_logged, self._age_scales
        write_ages(self.born, rows, columns, logged, scales, timestamp, numbers)
        if self.past is not None and self._past_fields:
            counted = self.past.read(self._past_fields, rows, timestamp)
            self.encoder.write_matrix(Matrix(self._past_names, counted), numbers, timestamp)

    def save(self, path: Path) -> None:
        past = self.past and {name: getattr(self.past, name[5:]) for name in _PAST}
        np.savez_compressed(
            path,
            ids=np.array(self.ids, dtype=np.str_),
            numbers=self.numbers,
            tokens=self.tokens,
            born=self.born,
            clicks=self.clicks,
            impressions=self.impressions,
            **(past or {}),
        )

    @classmethod
    def load(cls, path: Path, fitted: FittedFeatures) -> Self:
        """Raises: BundleError: it does not fit what was learned."""
        arrays, encoder = read_arrays(path, may_be_absent=("born",)), RecordEncoder(fitted, "item")
        rows = len(arrays.get("ids", ())) + 1
        ages = sum(field.kind == "age" for field, _ in encoder.numeric_fields)
        expected = {
            "ids": ((rows - 1,), "U"),
            "numbers": ((rows, encoder.columns), "f"),
            "tokens": ((rows, encoder.slots), "i"),
            "born": ((rows, ages), "f"),
            "clicks": ((rows,), "f"),
            "impressions": ((rows,), "f"),
        }
        if any(name in arrays for name in _PAST):
            events = len(arrays.get("past_times", ()))
            shapes = ((rows,), "i"), ((events,), "f"), ((events + 1,), "f")
            expected |= dict(zip(_PAST, shapes, strict=True))
        found = {name: (array.shape, array.dtype.kind) for name, array in arrays.items()}
        if found != expected:
            raise BundleError(f"{path}: expected {expected}, got {found}")
        tokens = arrays["tokens"]
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < fitted.vocabulary_size:
            raise BundleError(f"{path}: tokens: not all are below {fitted.vocabulary_size}")
        past = PastEvents(*(arrays.pop(name) for name in _PAST)) if _PAST[0] in arrays else None
        if past is not None and not past.is_in_order:
            raise BundleError(f"{path}: past_offsets: not ascending from 0 to the number of events")
        return cls(fitted, arrays.pop("ids").tolist(), **arrays, past=past)


class _Rows(dict[str, int]):
    """Row by id."""

    def __missing__(self, _: str) -> int:
        return UNKNOWN
