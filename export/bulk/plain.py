"""Ids and histories by column. They are nearly all that a nightly job reads, and nearly always plain: all
ids, types and times are valid, which a few looks at whole columns tell. Each different id is judged and
looked up once. Whatever is not plain is judged value by value.

Legend: N candidates.
"""

import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from bundle.features.assembly import FeatureAssembler
from bundle.features.history import IMPRESSION, Seen
from bundle.features.seen import IGNORED, LIKED, SHOWN, collapse_all
from bundle.timestamps import LARGEST
from model.data.arrow import values
from service.bodies import rerank as bodies
from service.bodies.twins import twin
from service.bodies.users import EVENT_TYPE
from service.settings import Settings

_TYPE = re.compile(EVENT_TYPE)
_NAMES = frozenset({"item_id", "type", "timestamp"})
ESCAPED = 6
"""Most bytes that JSON makes of one: `\\u0001`."""

_Item = twin(bodies.Item)


class _Words(NamedTuple):
    """A column of texts: each different one once, and which of them stands where."""

    different: list[str]
    places: NDArray[np.int32]


class PlainItems(NamedTuple):
    """Of one request, whose items are ids. `rows` are those of the catalogue, `[N] int64`."""

    items: list[bodies.Item]
    rows: NDArray[np.int64]


def plain_items(
    column: pa.Array, features: FeatureAssembler, settings: Settings
) -> list[PlainItems | None] | None:
    """The items of each request, None where it has none; None if any request has more than valid ids."""
    if not types.is_list(column.type):
        return None
    ids = _ids(column.flatten(), settings)
    if ids is None:
        return None
    different = [_Item(id=item, score=None, features=None) for item in ids.different]
    items = [different[place] for place in ids.places.tolist()]
    rows = features.catalogue.rows(ids.different)[ids.places]
    found: list[PlainItems | None] = []
    start = 0
    for length in pc.list_value_length(column).to_pylist():
        stop = start + (length or 0)
        found.append(None if length is None else PlainItems(items[start:stop], rows[start:stop]))
        start = stop
    return found


def plain_histories(column: pa.Array, features: FeatureAssembler, settings: Settings) -> list[Seen] | None:
    """What a model takes of each history, None if any event of any is not plain."""
    if not (types.is_list(column.type) and types.is_struct(column.type.value_type)):
        return None
    events = column.flatten()
    if not {field.name for field in events.type} <= _NAMES or events.null_count:
        return None
    items, kinds, times = (_field(events, name) for name in ("item_id", "type", "timestamp"))
    if items is None or kinds is None or not _valid_times(times):
        return None
    ids, words = _ids(items, settings), _words(kinds)
    if ids is None or words is None or not all(map(_TYPE.fullmatch, words.different)):
        return None
    lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    longest_id = max((len(item.encode()) for item in ids.different), default=0)
    most = min(int(lengths.max(initial=0)), settings.max_history)
    if most * (ESCAPED * longest_id + 100) > settings.max_history_bytes:
        return None  # the newest that fit are to be counted
    liked = features.schema.positive_types
    means = [LIKED if one in liked else SHOWN if one == IMPRESSION else IGNORED for one in words.different]
    ends = lengths.cumsum()
    return collapse_all(
        ids.places,
        np.array(means, np.int8)[words.places],
        ends - np.minimum(lengths, settings.max_history),
        ends,
        features.catalogue.rows(ids.different),
        features.schema.history_length,
    )


def _field(events: pa.Array, name: str) -> pa.Array | None:
    index = events.type.get_field_index(name)
    return events.field(index) if index >= 0 else None


def _ids(column: pa.Array, settings: Settings) -> _Words | None:
    """None if one of them is not valid."""
    words = _words(column)
    if words is None or not all(1 <= len(one) <= settings.max_id_length for one in words.different):
        return None
    return words


def _words(column: pa.Array) -> _Words | None:
    if not types.is_string(column.type) or column.null_count:
        return None
    encoded: Any = column.dictionary_encode()
    return _Words(values(encoded.dictionary), encoded.indices.to_numpy())


def _valid_times(times: pa.Array | None) -> bool:
    if times is None or types.is_null(times.type):
        return True
    if not (types.is_integer(times.type) or types.is_floating(times.type)):
        return False
    told = times.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
    known = told[~np.isnan(told)]
    return not len(known) or bool(known.min() >= 0 and known.max() <= LARGEST)
