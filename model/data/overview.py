"""What is in the lists of a data set, counted in one pass over them.

Knows nothing of what is wrong with it.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from bundle.features.schema import FeatureSchema, Scope
from model.data.declared_fields import is_number
from model.data.slate import SPLITS, Dataset, LoggedSlate, Split

Record = Mapping[str, Any]


def slates_of(dataset: Dataset) -> Iterator[LoggedSlate]:
    """Of all splits."""
    return chain.from_iterable(dataset.slates[split] for split in SPLITS)


class Words:
    """Values of a categorical field.

    Attributes:
        values: how many there are.
        fractions: the different numbers with fractions among them.
        only_numbers: whether all are numbers.
    """

    def __init__(self) -> None:
        self.values, self.only_numbers = 0, True
        self.fractions: set[float] = set()

    def add(self, value: Any) -> None:
        self.values += 1
        self.only_numbers &= is_number(value)
        if isinstance(value, float) and not value.is_integer():
            self.fractions.add(value)


class Overview:
    """Counts of lists, people, items and fields.

    Attributes:
        lists: how many of each split.
        people: of each split, by id; somebody unknown is another one for each list.
        scored, anonymous: lists that are.
        times: of the lists of each split, unix seconds.
        sizes: how many lists have so many candidates.
        items: what is known of every item in a list: its record, and what was sent with it last.
        totals: by scope, how many records there are: items that were in lists, and lists.
        present: by scope, how many records have each field that is not null.
        unlisted: items in no list that have a record; `of_unlisted` counts the fields of these.
        words: what categorical fields of the schema have, by scope and name.
    """

    def __init__(self, dataset: Dataset, schema: FeatureSchema | None = None) -> None:
        self.lists: dict[Split, int] = {split: len(dataset.slates[split]) for split in SPLITS}
        self.people: dict[Split, set[str]] = {split: set() for split in SPLITS}
        self.scored = self.anonymous = 0
        self.times = {split: array("d") for split in SPLITS}
        self.sizes = Counter[int]()
        self.items: dict[str, Record] = {}
        self.present: dict[Scope, Counter[str]] = {"item": Counter(), "user": Counter(), "context": Counter()}
        fields = () if schema is None else schema.fields
        self.words = {(one.scope, one.name): Words() for one in fields if one.kind == "categorical"}
        self._lists_of = Counter[str]()
        self._shown, self._clicked = Counter[int](), Counter[int]()  # by position
        for split in SPLITS:
            for slate in dataset.slates[split]:
                self._add(slate, split, dataset.items)
        for record in self.items.values():
            self._add_record("item", record)
        unlisted = dataset.items.keys() - self.items.keys()
        self.unlisted, self.of_unlisted = len(unlisted), Counter[str]()
        for item_id in unlisted:
            self.of_unlisted.update(_there(dataset.items[item_id]))
        lists = sum(self.lists.values())
        self.totals: dict[Scope, int] = {"item": len(self.items), "user": lists, "context": lists}

    @property
    def labels_by_position(self) -> list[float]:
        """Share of lists that show something at a position in which it was clicked."""
        return [self._clicked[place] / self._shown[place] for place in range(len(self._shown))]

    @property
    def lists_by_person(self) -> list[int]:
        """How many lists each person has who is known, fewest first."""
        return sorted(self._lists_of.values())

    def _add(self, slate: LoggedSlate, split: Split, records: Mapping[str, Record]) -> None:
        self.people[split].add(slate.user_id)
        self.scored += slate.scores is not None
        self.times[split].append(slate.timestamp)
        self.sizes[len(slate.candidates)] += 1
        if slate.anonymous:
            self.anonymous += 1
        else:
            self._lists_of[slate.user_id] += 1
        self._shown.update(range(len(slate.shown)))
        self._clicked.update(np.flatnonzero(slate.labels[slate.shown]).tolist())
        sent: Iterable[Record] = slate.features or [{}] * len(slate.candidates)
        for item_id, own in zip(slate.candidates, sent, strict=True):
            if own or item_id not in self.items:
                self.items[item_id] = {**records.get(item_id, {}), **self.items.get(item_id, {}), **own}
        self._add_record("user", slate.user.profile)
        self._add_record("context", slate.context)

    def _add_record(self, scope: Scope, record: Record) -> None:
        there = _there(record)
        self.present[scope].update(there)
        for name in there:
            if words := self.words.get((scope, name)):
                words.add(record[name])


def _there(record: Record) -> list[str]:
    return [name for name, value in record.items() if value is not None]
