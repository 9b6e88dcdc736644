"""What features learn from training data: vocabularies, scales, item click counts.

No statistic may see validation or test users, so the caller passes training records only.
Knows nothing of requests. Long, because what is learned of a field and how it is written belong together.
"""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from bundle.features.schema import AGE_KINDS, PAST_KINDS, FeatureSchema, FieldSpec, Frozen, Scope
from bundle.timestamps import LARGEST_S, in_seconds

SECONDS_PER_YEAR = 365.25 * 24 * 3600
CLIP = 4.0
"""Scaled numbers are clipped to this many standard deviations, so that drift cannot blow up a request."""

_NUMBERS, _TEXTS = {int, float, type(None)}, {str, type(None)}


class Scale(Frozen):
    """Mean and standard deviation of a numeric field after its logarithm, if any."""

    mean: float
    std: PositiveFloat


class FittedFeatures(Frozen):
    """The schema with everything learned. Serialises to the bundle's features file.

    `vocabulary` maps "scope.field" to value -> token id; ids are unique over all fields and 0 is padding.
    """

    feature_schema: FeatureSchema
    vocabulary: dict[str, dict[str, int]]
    scales: dict[str, Scale]
    mean_ctr: NonNegativeFloat
    vocabulary_size: PositiveInt

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for field in self.feature_schema.fields:
            learned = self.vocabulary if field.is_token else self.scales
            if field.kind != "vector" and key(field) not in learned:
                raise ValueError(f"nothing was learned of {key(field)}")
        for name, ids in self.vocabulary.items():
            if not all(0 < token < self.vocabulary_size for token in ids.values()):
                raise ValueError(f"vocabulary of {name}: an id is not within 1 to {self.vocabulary_size - 1}")
        return self


def key(field: FieldSpec) -> str:
    return f"{field.scope}.{field.name}"


def as_list(value: Any) -> list[Any]:
    """A single value or a list of them, as a list; None is empty."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def as_token(value: Any) -> str:
    """A value of a vocabulary as text: as JSON writes it, and 5.0 as 5."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def raw_number(field: FieldSpec, value: Any, timestamp: float) -> float:
    """Unscaled number of a numeric field, NaN where it is missing.

    Args:
        timestamp: unix seconds of the request, which `age` counts back from.

    Raises:
        ValueError: the value is not of the field's kind.
    """
    if value is None:
        return math.nan
    if field.kind == "text_length":
        if not isinstance(value, str):
            raise ValueError(f"feature {field.name!r}: expected a string, got {type(value).__name__}")
        number = float(len(value))
    else:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"feature {field.name!r}: expected a number, got {type(value).__name__}")
        number = float(value)
        if field.kind in AGE_KINDS:
            born = number if abs(number) <= LARGEST_S else float(in_seconds(np.array(number)))
            number = (timestamp - born) / SECONDS_PER_YEAR
    return math.copysign(math.log1p(abs(number)), number) if field.log else number


def raw_vector(field: FieldSpec, value: Any) -> NDArray[np.float32]:
    """A vector field's floats, zeros where it is missing.

    Raises:
        ValueError: not a list of `size` finite numbers.
    """
    assert field.size is not None
    if value is None:
        return np.zeros(field.size, np.float32)
    try:
        vector = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"feature {field.name!r}: expected {field.size} numbers") from None
    if vector.shape != (field.size,) or not np.isfinite(vector).all():
        raise ValueError(f"feature {field.name!r}: expected {field.size} finite numbers, got {vector.shape}")
    return vector


def fit(
    schema: FeatureSchema,
    items: Iterable[Mapping[str, Any]],
    users: Iterable[Mapping[str, Any]],
    contexts: Iterable[Mapping[str, Any]],
    timestamp: float,
    clicks: int,
    impressions: int,
    past: Sequence[tuple[float, NDArray[np.float64]]] = (),
) -> FittedFeatures:
    """Learn vocabularies and scales, in one pass over the records of each scope.

    Args:
        items, users, contexts: raw records of the training split; a value seen in fewer than the
            field's `min_count` records is unknown afterwards.
        timestamp: unix seconds that ages are measured at.
        clicks, impressions: totals of the training split, for the mean click rate.
        past: unix seconds of each training list, and what its candidates' raw numbers in the schema's `past`
            fields were then, `[N, P]`.
    """
    of_lists = _numbers_in_lists(schema.past, past)
    records: dict[Scope, Iterable[Mapping[str, Any]]] = {"item": items, "user": users, "context": contexts}
    counts: dict[str, Counter[str]] = {}
    numbers: dict[str, array[float]] = {}
    for scope, of_scope in records.items():
        fields = [field for field in schema.of(scope) if field.kind not in (*PAST_KINDS, "vector")]
        counts |= {key(field): Counter() for field in fields if field.is_token}
        numbers |= {key(field): array("d") for field in fields if not field.is_token}
        for record in of_scope if fields else ():
            for field in fields:
                value = record.get(field.name)
                if field.is_token:
                    counts[key(field)].update({as_token(one) for one in as_list(value)})
                else:
                    numbers[key(field)].append(raw_number(field, value, timestamp))
    vocabulary: dict[str, dict[str, int]] = {}
    scales: dict[str, Scale] = {}
    next_id = 1
    for field in schema.fields:
        if field.is_token:
            seen = counts[key(field)].items()
            known = sorted(value for value, count in seen if count >= field.min_count)
            vocabulary[key(field)] = {value: next_id + i for i, value in enumerate(known)}
            next_id += len(known)
        elif field.kind != "vector":
            own = of_lists[field.name] if field.kind in PAST_KINDS else np.array(numbers[key(field)])
            own = own[np.isfinite(own)]
            mean, std = (float(own.mean()), float(own.std())) if len(own) else (0.0, 1.0)
            scales[key(field)] = Scale(mean=mean, std=std if std > 1e-6 else 1.0)
    return FittedFeatures(
        feature_schema=schema,
        vocabulary=vocabulary,
        scales=scales,
        mean_ctr=clicks / max(impressions, 1),
        vocabulary_size=next_id,
    )


def _numbers_in_lists(
    fields: Sequence[FieldSpec], lists: Sequence[tuple[float, NDArray[np.float64]]]
) -> dict[str, NDArray[np.float64]]:
    """Unscaled numbers of each field in all lists."""
    found = np.zeros((0, len(fields)))
    if fields and lists:
        aged = [column for column, field in enumerate(fields) if field.kind in AGE_KINDS]
        logged = [column for column, field in enumerate(fields) if field.log]
        unscaled = [_unscaled(raw.T.copy(), aged, logged, timestamp) for timestamp, raw in lists]
        found = np.concatenate(unscaled, axis=1).T
    return {field.name: found[:, column] for column, field in enumerate(fields)}


def _unscaled(
    raw: NDArray[np.float64], aged: list[int], logged: list[int], timestamp: float
) -> NDArray[np.float64]:
    """`raw_number` of many, `[fields, n]`, in place."""
    if aged:
        raw[aged] = (timestamp - in_seconds(raw[aged])) / SECONDS_PER_YEAR
    if logged:
        raw[logged] = np.copysign(np.log1p(np.abs(raw[logged])), raw[logged])
    return raw


class Matrix(NamedTuple):
    """Raw numbers of many records: `values` is `[n, names]`, NaN where absent.

    A column is a numeric field, an age as unix time, the length of a text, or, as `name[i]`, one number of
    a vector. Names of no such field are ignored.
    """

    names: Sequence[str]
    values: NDArray[np.floating]


class RecordEncoder:
    """Writes raw records of one scope into token slots and scaled numeric columns."""

    def __init__(self, fitted: FittedFeatures, scope: Scope) -> None:
        fields = fitted.feature_schema.of(scope)
        self.fitted = fitted
        self.numeric_fields = _placed([f for f in fields if not f.is_token], lambda f: f.columns)
        self.token_fields = _placed([f for f in fields if f.is_token], lambda f: f.slots)
        self.columns = sum(field.columns for field, _ in self.numeric_fields)
        self.slots = sum(field.slots for field, _ in self.token_fields)
        self.names = frozenset(field.name for field in fields)
        self._vectors = [(field, place) for field, place in self.numeric_fields if field.kind == "vector"]
        scalars = [(field, place.start) for field, place in self.numeric_fields if field.kind != "vector"]
        self._scalars = [field for field, _ in scalars]
        elements = {f"{field.name}[{i}]" for field, _ in self._vectors for i in range(field.columns)}
        self.matrix_names = frozenset(elements | {field.name for field in self._scalars})  # it may name these
        self._scalar_columns = [column for _, column in scalars]
        self._aged = [row for row, field in enumerate(self._scalars) if field.kind in AGE_KINDS]
        self._logged = [row for row, field in enumerate(self._scalars) if field.log]
        scales = [fitted.scales[key(field)] for field in self._scalars]
        self._means = np.array([[scale.mean] for scale in scales])
        self._stds = np.array([[scale.std] for scale in scales])

    def nothing(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Columns and slots of a record that says nothing, for `write`."""
        return np.zeros(self.columns, np.float32), np.zeros(self.slots, np.int32)

    def write(
        self,
        record: Mapping[str, Any],
        numbers: NDArray[np.float32],
        tokens: NDArray[np.int32],
        timestamp: float,
        unknown: set[str] | None = None,
    ) -> None:
        """`write_rows` for one record: `numbers` is `[columns]`, `tokens` is `[slots]`."""
        if record:
            self.write_rows([record], numbers[None], tokens[None], timestamp, unknown)

    def write_rows(
        self,
        records: Sequence[Mapping[str, Any]],
        numbers: NDArray[np.float32],
        tokens: NDArray[np.int32],
        timestamp: float,
        unknown: set[str] | None = None,
    ) -> None:
        """Overwrite the columns and slots of the fields that each record has; others stay as they are.

        Args:
            numbers: `[n, columns] float32`, zeros where nothing is known.
            tokens: `[n, slots] int32`, 0 where nothing is known; unknown values are dropped, and where all of
                a field are unknown, what is there stays.
            unknown: gets the names of fields with values that are not in their vocabulary.

        Raises:
            ValueError: a value is not of its field's kind; the message names the field.
        """
        if self._scalars:
            raw = np.array([_raw_numbers(field, records) for field in self._scalars], np.float64)
            self._write_scalars(raw, numbers, timestamp)
        for field, place in self._vectors:
            rows, vectors = _raw_vectors(field, records)
            if rows:
                numbers[rows, place] = vectors
        for field, place in self.token_fields:
            rows, ids = self._token_ids(field, records, unknown)
            if rows:
                tokens[rows, place] = ids

    def write_matrix(self, matrix: "Matrix", numbers: NDArray[np.float32], timestamp: float) -> None:
        """Overwrite the columns that the matrix names and has numbers for; `numbers` as for `write_rows`."""
        places = {name: place for place, name in enumerate(matrix.names)}
        scalars = [(row, places[f.name]) for row, f in enumerate(self._scalars) if f.name in places]
        if scalars:
            raw = np.full((len(self._scalars), len(numbers)), np.nan)
            rows, columns = zip(*scalars, strict=True)
            raw[list(rows)] = matrix.values.T[list(columns)]
            self._write_scalars(raw, numbers, timestamp)
        for field, place in self._vectors:
            sent = [places.get(f"{field.name}[{i}]") for i in range(field.columns)]
            own = [place.start + i for i, column in enumerate(sent) if column is not None]
            values = matrix.values[:, [column for column in sent if column is not None]]
            numbers[:, own] = np.where(np.isnan(values), numbers[:, own], values)

    def _write_scalars(
        self, raw: NDArray[np.float64], numbers: NDArray[np.float32], timestamp: float
    ) -> None:
        """Scale raw numbers, `[scalar fields, n]`, into their columns; NaN leaves what is there."""
        missing = np.isnan(raw)
        unscaled = _unscaled(raw, self._aged, self._logged, timestamp)
        scaled = _clipped((unscaled - self._means) / self._stds).T
        kept = numbers[:, self._scalar_columns]
        numbers[:, self._scalar_columns] = np.where(missing.T, kept, scaled) if missing.any() else scaled

    def _token_ids(
        self, field: FieldSpec, records: Sequence[Mapping[str, Any]], unknown: set[str] | None
    ) -> tuple[list[int], list[list[int]]]:
        """Rows that have the field, and the padded token ids of each."""
        name, slots, known = field.name, field.slots, self.fitted.vocabulary[key(field)].get
        padding = [0] * slots
        rows, ids = [], []
        for row, record in enumerate(records):
            value = record.get(name)
            if value is None:
                continue
            values = value if isinstance(value, list) else as_list(value)
            found = [known(one, 0) if type(one) is str else token_id(known, one) for one in values]
            if 0 in found:
                found = [token for token in found if token]
                if unknown is not None:
                    unknown.add(name)
                if not found:
                    continue
            rows.append(row)
            ids.append((found + padding)[:slots])
        return rows, ids


def token_id(known: Callable[[str, int], int], value: Any) -> int:
    """Of a value, 0 if it is unknown. As Python writes it comes first, for bundles whose vocabulary
    has it so."""
    found = known(str(value), 0)
    if not found and (isinstance(value, bool) or (isinstance(value, float) and value.is_integer())):
        found = known(as_token(value), 0)
    return found


def _clipped(standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard units within the clip; NaN becomes the mean, 0."""
    clipped = np.minimum(np.maximum(standard, -CLIP), CLIP)
    clipped[np.isnan(clipped)] = 0.0
    return clipped


def _raw_numbers(field: FieldSpec, records: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """A numeric field of every record as it was sent, a text as its length; None where it is missing.

    Raises:
        ValueError: a value is not of the field's kind.
    """
    name = field.name
    values = [record.get(name) for record in records]
    text = field.kind == "text_length"
    if not set(map(type, values)) <= (_TEXTS if text else _NUMBERS):
        for value in values:  # names the one at fault
            raw_number(field, value, 0.0)
    return [None if value is None else len(value) for value in values] if text else values


def _raw_vectors(
    field: FieldSpec, records: Sequence[Mapping[str, Any]]
) -> tuple[list[int], NDArray[np.float32]]:
    """Rows that have a vector field, and their floats. `[rows, size] float32`.

    Raises:
        ValueError: a value is not a list of `size` finite numbers.
    """
    name = field.name
    values = [record.get(name) for record in records]
    rows = [row for row, value in enumerate(values) if value is not None]
    given = [values[row] for row in rows]
    try:
        vectors = np.array(given, np.float32)
        fits = vectors.shape == (len(rows), field.size) and bool(np.isfinite(vectors).all())
    except (TypeError, ValueError):
        fits = False
    if rows and not fits:
        vectors = np.stack([raw_vector(field, value) for value in given])  # names the one at fault
    return rows, vectors


def _placed(fields: list[FieldSpec], width: Callable[[FieldSpec], int]) -> list[tuple[FieldSpec, slice]]:
    """Each field with its slice of the row."""
    ends = list(accumulate(map(width, fields), initial=0))
    return [(field, slice(a, b)) for field, a, b in zip(fields, ends, ends[1:], strict=False)]
