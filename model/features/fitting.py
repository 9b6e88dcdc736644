"""What features learn from training data: vocabularies, scales, item click counts.

No statistic may see validation or test users, so the caller passes training records only.
Knows nothing of requests.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.features.schema import FeatureSchema, FieldSpec, Frozen, Scope

SECONDS_PER_YEAR = 365.25 * 24 * 3600
CLIP = 4.0
"""Scaled numbers are clipped to this many standard deviations, so that drift cannot blow up a request."""


class Scale(Frozen):
    """Mean and standard deviation of a numeric field after its logarithm, if any."""

    mean: float
    std: float


class FittedFeatures(Frozen):
    """The schema with everything learned. Serialises to the bundle's features file.

    `vocabulary` maps "scope.field" to value -> token id; ids are unique over all fields and 0 is padding.
    """

    feature_schema: FeatureSchema
    vocabulary: dict[str, dict[str, int]]
    scales: dict[str, Scale]
    mean_ctr: float
    vocabulary_size: int


def key(field: FieldSpec) -> str:
    return f"{field.scope}.{field.name}"


def as_list(value: Any) -> list[Any]:
    """A single value or a list of them, as a list; None is empty."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


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
        if field.kind == "age":
            number = (timestamp - number) / SECONDS_PER_YEAR
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
) -> FittedFeatures:
    """Learn vocabularies and scales.

    Args:
        items, users, contexts: raw records of the training split; a value seen in fewer than the
            field's `min_count` records is unknown afterwards.
        timestamp: unix seconds that ages are measured at.
        clicks, impressions: totals of the training split, for the mean click rate.
    """
    records: dict[Scope, list[Mapping[str, Any]]] = {
        "item": list(items),
        "user": list(users),
        "context": list(contexts),
    }
    vocabulary: dict[str, dict[str, int]] = {}
    scales: dict[str, Scale] = {}
    next_id = 1
    for field in schema.fields:
        values = [record.get(field.name) for record in records[field.scope]]
        if field.is_token:
            counts = Counter(str(single) for value in values for single in set(as_list(value)))
            known = sorted(value for value, count in counts.items() if count >= field.min_count)
            vocabulary[key(field)] = {value: next_id + i for i, value in enumerate(known)}
            next_id += len(known)
        elif field.kind != "vector":
            numbers = np.array([raw_number(field, value, timestamp) for value in values], np.float64)
            numbers = numbers[np.isfinite(numbers)]
            mean, std = (float(numbers.mean()), float(numbers.std())) if len(numbers) else (0.0, 1.0)
            scales[key(field)] = Scale(mean=mean, std=std if std > 1e-6 else 1.0)
    return FittedFeatures(
        feature_schema=schema,
        vocabulary=vocabulary,
        scales=scales,
        mean_ctr=clicks / max(impressions, 1),
        vocabulary_size=next_id,
    )


class RecordEncoder:
    """Writes raw records of one scope into token slots and scaled numeric columns."""

    def __init__(self, fitted: FittedFeatures, scope: Scope) -> None:
        fields = fitted.feature_schema.of(scope)
        self.fitted = fitted
        self.numeric_fields = _placed([f for f in fields if not f.is_token], lambda f: f.columns)
        self.token_fields = _placed([f for f in fields if f.is_token], lambda f: f.slots)
        self.columns = sum(field.columns for field, _ in self.numeric_fields)
        self.slots = sum(field.slots for field, _ in self.token_fields)

    def scaled(self, field: FieldSpec, number: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Raw numbers (after any logarithm) to clipped standard units; NaN becomes the mean, 0."""
        scale = self.fitted.scales[key(field)]
        return np.clip(np.nan_to_num((np.asarray(number) - scale.mean) / scale.std), -CLIP, CLIP)

    def write(
        self,
        record: Mapping[str, Any],
        numbers: NDArray[np.float32],
        tokens: NDArray[np.int32],
        timestamp: float,
    ) -> None:
        """Overwrite the columns and slots of the fields that `record` has; others stay as they are.

        Args:
            numbers: `[columns] float32`, zeros where nothing is known.
            tokens: `[slots] int32`, 0 where nothing is known; unknown values are dropped.

        Raises:
            ValueError: a value is not of its field's kind; the message names the field.
        """
        for field, place in self.numeric_fields:
            value = record.get(field.name)
            if value is None:
                continue
            if field.kind == "vector":
                numbers[place] = raw_vector(field, value)
            else:
                numbers[place] = self.scaled(field, raw_number(field, value, timestamp))
        for field, place in self.token_fields:
            if record.get(field.name) is None:
                continue
            known = self.fitted.vocabulary[key(field)]
            ids = [known[value] for value in map(str, as_list(record[field.name])) if value in known]
            ids = ids[: field.slots]
            tokens[place] = ids + [0] * (field.slots - len(ids))


def _placed(fields: list[FieldSpec], width: Callable[[FieldSpec], int]) -> list[tuple[FieldSpec, slice]]:
    """Each field with its slice of the row."""
    ends = list(accumulate(map(width, fields), initial=0))
    return [(field, slice(a, b)) for field, a, b in zip(fields, ends, ends[1:], strict=False)]
