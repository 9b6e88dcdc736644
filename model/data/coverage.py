"""Which declared fields a log has, how much of it, and what was probably meant by those that it has not.

What makes training wrong or impossible goes to the findings.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bundle.features.schema import PAST_KINDS, FeatureSchema, FieldSpec, Frozen, Scope
from model.data.declared_fields import is_number
from model.data.findings import Effect, Findings
from model.data.slate import SPLITS, Dataset, LoggedSlate

SCOPES: dict[Scope, str] = {"item": "items", "user": "lists' users", "context": "lists"}
"""What fields of each scope are fields of."""

FEW = 20
"""Different numbers that a categorical field may have without looking like a numeric one."""


class Covered(Frozen):
    """A declared field: `present` of `total` items, or lists, have it."""

    scope: Scope
    name: str
    present: int
    total: int

    def __str__(self) -> str:
        return f"`{self.name}`: {self.present:,} of {self.total:,} {SCOPES[self.scope]}"


class Fields:
    """Which records of a data set have which field.

    Attributes:
        present: by scope, how many records have each field that is not null.
        totals: by scope, how many records there are: items that were in lists, and lists.
        records: by scope.
    """

    def __init__(self, dataset: Dataset) -> None:
        slates = slates_of(dataset)
        self.records: dict[Scope, Sequence[Mapping[str, Any]]] = {
            "item": list(_items(dataset, slates).values()),
            "user": [slate.user.profile for slate in slates],
            "context": [slate.context for slate in slates],
        }
        self.totals = {scope: len(records) for scope, records in self.records.items()}
        self.present = {scope: _present(records) for scope, records in self.records.items()}

    def covered(self, schema: FeatureSchema) -> list[Covered]:
        """The declared fields that a log has to have."""
        return [
            Covered(
                scope=field.scope,
                name=field.name,
                present=self.present[field.scope][field.name],
                total=self.totals[field.scope],
            )
            for field in schema.fields
            if field.kind not in PAST_KINDS
        ]

    def undeclared(self, schema: FeatureSchema) -> list[Covered]:
        """Fields that the log has and the schema does not."""
        declared = {(field.scope, field.name) for field in schema.fields}
        return [
            Covered(scope=scope, name=name, present=count, total=self.totals[scope])
            for scope, counts in self.present.items()
            for name, count in sorted(counts.items())
            if (scope, name) not in declared
        ]


def slates_of(dataset: Dataset) -> list[LoggedSlate]:
    """Of all splits."""
    return [slate for split in SPLITS for slate in dataset.slates[split]]


def judge(dataset: Dataset, schema: FeatureSchema, fields: Fields, found: Findings) -> None:
    """Find what the log lacks that the schema asks for, and splits without a list."""
    if dataset.findings is not None:  # only an event log says what was done
        _judge_types(dataset.interaction_types, schema, found)
    if not any(fields.totals.values()):
        return
    _judge_splits(dataset, found)
    _judge_dropped(dataset, found)
    _judge_items(dataset, found)
    undeclared = fields.undeclared(schema)
    for field, covered in zip(
        (field for field in schema.fields if field.kind not in PAST_KINDS),
        fields.covered(schema),
        strict=True,
    ):
        if not covered.present:
            message = f"{covered}{_meant(covered, undeclared)}"
            about = f"{covered.scope}.{covered.name}"
            found.add("field without a value", Effect.REFUSED, "", "", message, about)
        elif field.kind == "categorical":
            _judge_words(field, fields.records[field.scope], found)
    slates = slates_of(dataset)
    scored = sum(slate.scores is not None for slate in slates)
    if scored and not schema.initial_score:
        message = (
            f"`relevancy` comes with {scored:,} of {len(slates):,} lists and is not read: set "
            "features.initial_score = true"
        )
        found.add("scores that are not read", Effect.READ, "", "", message)
    if slates and not scored and schema.initial_score:
        message = (
            "features.initial_score: no list has scores; give the items of rankings `relevancy`, or make "
            "some with `python -m model.first_stage`"
        )
        found.add("no scores", Effect.REFUSED, "", "", message)


def _judge_types(counts: Mapping[str, int], schema: FeatureSchema, found: Findings) -> None:
    types = Counter(counts)
    there = ", ".join(f"{kind} {count:,}" for kind, count in types.most_common()) or "none at all"
    missing = [kind for kind in schema.positive_types if not types[kind]]
    if len(missing) == len(schema.positive_types):
        message = f"positive_types: no interaction is {' or '.join(missing)}; there are: {there}"
        found.add("no positive", Effect.REFUSED, "", "", message)
        return
    for kind in missing:
        message = f"positive_types: no interaction is {kind}; there are: {there}"
        found.add("positive type without an interaction", Effect.READ, "", "", message, kind)


def _judge_splits(dataset: Dataset, found: Findings) -> None:
    people = {slate.user_id for slate in slates_of(dataset)}
    for split in SPLITS:
        if not dataset.slates[split]:
            message = (
                f"{split}: no list; {len(people):,} people with usable lists are too few to split by person "
                "into 70 % training, 10 % validation, 20 % test"
            )
            found.add("split without a list", Effect.REFUSED, "", "", message, split)


def _judge_dropped(dataset: Dataset, found: Findings) -> None:
    kept, dropped = len(slates_of(dataset)), sum(dataset.dropped.values())
    if dropped > kept:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dataset.dropped.items())
        message = (
            f"{dropped:,} of {kept + dropped:,} lists teach nothing ({reasons}): are rows of one list apart, "
            "or positive_types too few or too many?"
        )
        found.add("most lists left out", Effect.SUSPECT, "", "", message)


def _judge_items(dataset: Dataset, found: Findings) -> None:
    shown = {item_id for slate in slates_of(dataset) for item_id in slate.candidates}
    if dataset.items and shown.isdisjoint(dataset.items):
        message = (
            f"none of the {len(shown):,} items in lists has a line of its own: lists have ids such as "
            f"{min(shown)!r}, lines such as {min(dataset.items)!r}"
        )
        found.add("items without a line", Effect.REFUSED, "", "", message)


def _judge_words(field: FieldSpec, records: Iterable[Mapping[str, Any]], found: Findings) -> None:
    """Numbers that each stand for themselves where words are meant."""
    values = [value for record in records if (value := record.get(field.name)) is not None]
    numbers = {value for value in values if isinstance(value, float) and not value.is_integer()}
    if len(numbers) > max(FEW, len(values) // 2) and all(map(is_number, values)):
        message = (
            f"`{field.name}` is categorical and has {len(numbers):,} different numbers with fractions; did "
            "you mean kind `numeric`?"
        )
        found.add("numbers for words", Effect.REFUSED, "", "", message, f"{field.scope}.{field.name}")


def _items(dataset: Dataset, slates: Iterable[LoggedSlate]) -> dict[str, Mapping[str, Any]]:
    """What is known of every item in a list: its record, and what was sent with it last."""
    known: dict[str, Mapping[str, Any]] = {}
    for slate in slates:
        sent = slate.features or [{}] * len(slate.candidates)
        for item_id, own in zip(slate.candidates, sent, strict=True):
            if own or item_id not in known:
                known[item_id] = {**dataset.items.get(item_id, {}), **known.get(item_id, {}), **own}
    return known


def _present(records: Iterable[Mapping[str, Any]]) -> Counter[str]:
    return Counter(name for record in records for name, value in record.items() if value is not None)


def _meant(covered: Covered, undeclared: Sequence[Covered]) -> str:
    """A field of the log that may have been meant: the same name elsewhere, or nearly the same."""
    elsewhere = next((one for one in undeclared if one.name == covered.name), None)
    if elsewhere:
        many = f"{elsewhere.present:,} of {elsewhere.total:,} {SCOPES[elsewhere.scope]}"
        return f'; {many} have it: set scope = "{elsewhere.scope}"'
    names = [one.name for one in undeclared if one.scope == covered.scope]
    near = difflib.get_close_matches(covered.name, names, 1)
    return f"; did you mean `{near[0]}`?" if near else ""
