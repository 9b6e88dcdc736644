"""Histories by column. They are most of what a nightly job reads, and nearly always plain: all ids, types and
times are valid, which a few looks at whole columns tell. Whatever is not is judged event by event.
"""

import re
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from bundle.features.history import Interaction
from bundle.timestamps import LARGEST, in_seconds
from model.data.arrow import values
from service.bodies.users import EVENT_TYPE
from service.settings import Settings

_TYPE = re.compile(EVENT_TYPE)
_NAMES = frozenset({"item_id", "type", "timestamp"})
ESCAPED = 6
"""Most bytes that JSON makes of one: `\\u0001`."""


def plain_histories(column: pa.Array, settings: Settings) -> list[tuple[Interaction, ...]] | None:
    """What is kept of each history, None if any event of any is not plain."""
    if not (types.is_list(column.type) and types.is_struct(column.type.value_type)):
        return None
    events = column.flatten()
    if not {field.name for field in events.type} <= _NAMES or events.null_count:
        return None
    ids, kinds, times = (_field(events, name) for name in ("item_id", "type", "timestamp"))
    if ids is None or kinds is None or not _valid_ids(ids, settings) or not _valid_types(kinds):
        return None
    seconds = _seconds(times, len(events))
    if seconds is None:
        return None
    lengths = pc.list_value_length(column).fill_null(0).to_numpy().tolist()
    longest_id = pc.max(pc.binary_length(ids)).as_py() or 0
    most = min(max(lengths, default=0), settings.max_history)
    if most * (ESCAPED * longest_id + 100) > settings.max_history_bytes:
        return None  # the newest that fit are to be counted
    told = zip(values(ids), values(kinds), seconds, repeat(None))
    new: Any = tuple.__new__  # as `_make`, twice as fast
    made: list[Interaction] = list(map(new, repeat(Interaction), told))
    histories, start = [], 0
    for length in lengths:
        stop = start + length
        histories.append(tuple(made[max(start, stop - settings.max_history) : stop]))
        start = stop
    return histories


def _field(events: pa.Array, name: str) -> pa.Array | None:
    index = events.type.get_field_index(name)
    return events.field(index) if index >= 0 else None


def _valid_ids(ids: pa.Array, settings: Settings) -> bool:
    if not types.is_string(ids.type) or ids.null_count:
        return False
    shortest, longest = pc.min_max(pc.utf8_length(ids)).as_py().values()
    return shortest is None or (shortest >= 1 and longest <= settings.max_id_length)


def _valid_types(kinds: pa.Array) -> bool:
    if not types.is_string(kinds.type) or kinds.null_count:
        return False
    return all(_TYPE.fullmatch(kind) for kind in pc.unique(kinds).to_pylist())


def _seconds(times: pa.Array | None, events: int) -> list[float | None] | None:
    """Unix seconds of each event, if it says its time; None if one of them is no time."""
    if times is None or types.is_null(times.type):
        return [None] * events
    if not (types.is_integer(times.type) or types.is_floating(times.type)):
        return None
    told = times.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
    known = told[~np.isnan(told)]
    if len(known) and (known.min() < 0 or known.max() > LARGEST):
        return None
    seconds: list[Any] = in_seconds(told).tolist()
    return seconds if len(known) == len(told) else [None if at != at else at for at in seconds]
