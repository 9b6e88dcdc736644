"""Arrow's columns as Python's plain values, by column: much faster than `to_pylist`, which goes by value."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from bundle.errors import RerankerError


class ColumnError(RerankerError):
    """A column of a type that has no plain values; the message names it by path."""


def plain_type(kind: pa.DataType, path: str) -> pa.DataType:
    """The type that a column is cast to before `values`: its dictionaries read, its decimals as float64, its
    instants as whole numbers in their own unit.

    Raises:
        ColumnError: there is none.
    """
    if types.is_dictionary(kind):
        return plain_type(kind.value_type, path)
    if types.is_struct(kind):
        return pa.struct([(one.name, plain_type(one.type, f"{path}.{one.name}")) for one in kind])
    if types.is_map(kind):
        key, item = plain_type(kind.key_type, f"{path}.key"), plain_type(kind.item_type, f"{path}.value")
        if not types.is_string(key):
            raise ColumnError(f"column {path}: {kind}; keys of a map are to be texts")
        return pa.map_(key, item)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type, path))
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_timestamp(kind):
        return pa.int64()
    if types.is_floating(kind) or types.is_decimal(kind):
        return pa.float64()
    if types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind):
        return kind
    raise ColumnError(f"column {path}: {kind}; cast it to a text, a number, a timestamp, a list or a struct")


def values(array: pa.Array, nan: float | None = math.nan) -> list[Any]:
    """Values of a column of a plain type. Structs and maps are dictionaries of what is not null.

    Args:
        nan: stands for numbers that are none.
    """
    kind = array.type
    if types.is_struct(kind):
        names = [one.name for one in kind]
        columns = [values(column, nan) for column in array.flatten()]
        if any(None in column for column in columns):
            rows = [
                {name: value for name, value in zip(names, row, strict=True) if value is not None}
                for row in zip(*columns, strict=True)
            ]
        else:
            rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return _absent(array, rows if names else [{} for _ in range(len(array))])
    if types.is_map(kind):
        start, ends = _offsets(array)
        keys, items = (values(part.slice(start, ends[-1] - start), nan) for part in (array.keys, array.items))
        pairs = list(zip(keys, items, strict=True))
        maps = [
            {name: value for name, value in pairs[first - start : last - start] if value is not None}
            for first, last in zip([start, *ends], ends, strict=False)
        ]
        return _absent(array, maps)
    if types.is_list(kind):
        start, ends = _offsets(array)
        flat = values(array.values.slice(start, ends[-1] - start), nan)
        lists = [
            flat[first - start : last - start] for first, last in zip([start, *ends], ends, strict=False)
        ]
        return _absent(array, lists)
    if types.is_null(kind):
        return [None] * len(array)
    if types.is_integer(kind) and array.null_count:
        return _absent(array, array.fill_null(0).to_numpy().tolist())
    plain: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
    if types.is_floating(kind):
        if array.null_count:
            plain = _absent(array, plain)
        if nan is None:
            plain = [None if value != value else value for value in plain]
    return plain


def _offsets(array: pa.Array) -> tuple[int, list[int]]:
    """Where the first list of an array begins in its values, and where each ends; one end at least."""
    offsets: list[int] = array.offsets.to_numpy().tolist()
    return offsets[0], offsets[1:] or offsets


def _absent(array: pa.Array, found: list[Any]) -> list[Any]:
    """With None where the array has null."""
    if not array.null_count:
        return found
    known = np.asarray(array.is_valid()).tolist()
    return [value if there else None for value, there in zip(found, known, strict=True)]
