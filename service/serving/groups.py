"""Which items of a request a rule is about: those with a value of a feature, or those of a named group.

A value is judged as the model's features judge it (`bundle.features.fitting`): what the model knows is told
apart as it tells it apart, whether it comes from the catalogue or with the request. What the model does not
know is still told apart by its text, as JSON writes it; so are the values of features that the model has no
field for.

Legend: N items that may be shown, V values of a feature that they have.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.features.assembly import FeatureAssembler
from bundle.features.fitting import as_list, as_token, key, token_id
from service.bodies.rerank import Item

Members = NDArray[np.bool_]
"""`[N]`"""


class Values(NamedTuple):
    """The values of a feature that items have, and which items have each.

    Attributes:
        ids: `[V]`, ascending: tokens of the model's vocabulary, and, above them, texts that it lacks.
        texts: ids of the latter.
        counts: `[V]`, items that have a value.
        owners: those items, value by value.
    """

    ids: NDArray[np.int64]
    texts: dict[str, int]
    counts: NDArray[np.int64]
    owners: NDArray[np.int64]


class Groups:
    """Of the items of one request. Each is looked up when a rule first asks."""

    def __init__(
        self,
        assembler: FeatureAssembler,
        every: Sequence[Item],
        rows: NDArray[np.int64],
        shown: Sequence[int],
    ) -> None:
        """
        Args:
            every: the request's items.
            rows: of the catalogue, of these.
            shown: those that may be shown, by index.
        """
        self._assembler, self._every = assembler, every
        items = every if len(shown) == len(every) else [every[index] for index in shown]
        self._items, self._rows = items, rows if items is every else rows[list(shown)]
        self._fields = {field.name: (field, at) for field, at in assembler.catalogue.encoder.token_fields}
        self.places = {item.id: place for place, item in enumerate(items)}
        self._values: dict[str, Values] = {}

    @property
    def fields(self) -> list[str]:
        """Features of the model that group items."""
        return list(self._fields)

    def named(self, ids: Iterable[str]) -> Members:
        """The items with these ids."""
        members = np.zeros(len(self._items), bool)
        members[[self.places[item_id] for item_id in set(self.places).intersection(ids)]] = True
        return members

    def of(self, feature: str, value: Any) -> tuple[Members, bool]:
        """The items with a value, and whether the model or any of them knows it.

        Raises:
            LookupError: as `values`.
        """
        values = self.values(feature)
        found = token_id(self._vocabulary(feature).get, value) or values.texts.get(as_token(value), 0)
        members = np.zeros(len(self._items), bool)
        at = int(values.ids.searchsorted(found))
        if at < len(values.ids) and values.ids[at] == found:
            end = int(values.counts[: at + 1].sum())
            members[values.owners[end - values.counts[at] : end]] = True
        return members, bool(found)

    def members(self, values: Values, some: NDArray[np.intp]) -> NDArray[np.bool_]:
        """The items with each of some values, of which there are at least one. `[some, N] bool`."""
        members = np.zeros((len(some), len(self._items)), bool)
        row = np.full(len(values.ids), -1)
        row[some] = np.arange(len(some))
        rows = row.repeat(values.counts)
        wanted = rows >= 0
        members[rows[wanted], values.owners[wanted]] = True
        return members

    def text(self, feature: str, value: int) -> str:
        """Of a value, by its id."""
        known, sent = self._vocabulary(feature), self.values(feature).texts
        return next(text for texts in (sent, known) for text, one in texts.items() if one == value)

    def values(self, feature: str) -> Values:
        """Raises: LookupError: the model has no such field of words, and no item was sent with it."""
        if feature not in self._values:
            self._values[feature] = self._read(feature)
        return self._values[feature]

    def _vocabulary(self, feature: str) -> dict[str, int]:
        if feature not in self._fields:
            return {}
        return self._assembler.fitted.vocabulary[key(self._fields[feature][0])]

    def _is_sent(self, feature: str) -> bool:
        """Null, and with items that may not be shown, it is one too."""
        return any(item.features is not None and feature in item.features for item in self._every)

    def _read(self, feature: str) -> Values:
        sent = [
            (place, as_list(value))
            for place, item in enumerate(self._items)
            if item.features and (value := item.features.get(feature)) is not None
        ]
        declared, catalogue = feature in self._fields, self._assembler.catalogue
        if not declared and (feature in catalogue.encoder.names or not self._is_sent(feature)):
            raise LookupError(feature)
        texts: dict[str, int] = {}
        ids: dict[Any, int] = {}  # by value, for the same few come again and again
        more: list[tuple[int, int]] = []  # ids and owners of what was sent
        known, first = self._vocabulary(feature).get, self._assembler.fitted.vocabulary_size
        overwritten: list[int] = []
        for place, listed in sent:
            is_known = False
            for value in listed:
                one = value if type(value) is str else (type(value), value)  # 1 is not true
                found = ids.get(one)
                if found is None:
                    token = token_id(known, value)
                    found = ids[one] = token or texts.setdefault(as_token(value), first + len(texts))
                more.append((found, place))
                is_known |= found < first
            if is_known:
                overwritten.append(place)
        each = max(1, len(self._items))
        pairs = np.array([value * each + place for value, place in more], np.int64)
        if declared:
            tokens = catalogue.tokens[self._rows, self._fields[feature][1]]
            if overwritten:
                tokens[overwritten] = 0
            owned = tokens.ravel() * np.int64(each) + np.arange(len(tokens)).repeat(tokens.shape[1])
            pairs = np.concatenate((pairs, owned[tokens.ravel() != 0]))
        return _grouped(pairs, each, texts)


def _grouped(pairs: NDArray[np.int64], each: int, texts: dict[str, int]) -> Values:
    """From `value * each + item` of every item that has a value, as often as it is said to."""
    pairs.sort()
    pairs = pairs[_changes(pairs)]
    values = pairs // each
    (starts,) = _changes(values).nonzero()
    counts = np.empty(len(starts), np.int64)
    counts[:-1] = starts[1:] - starts[:-1]
    counts[-1:] = len(pairs) - starts[-1:]
    return Values(values[starts], texts, counts, pairs - values * each)


def _changes(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where a value is not the one before."""
    changes = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    return changes
