"""Which declared fields a log has, how much of it, and what was probably meant by those that it has not.

What makes training wrong or impossible goes to the findings.
"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence

from bundle.features.schema import PAST_KINDS, FeatureSchema, Frozen, Scope
from model.data.findings import Effect, Findings
from model.data.overview import Overview, Words
from model.data.slate import SPLITS, Dataset

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


def covered(overview: Overview, schema: FeatureSchema) -> list[Covered]:
    """The declared fields that a log has to have."""
    return [
        Covered(
            scope=field.scope,
            name=field.name,
            present=overview.present[field.scope][field.name],
            total=overview.totals[field.scope],
        )
        for field in schema.fields
        if field.kind not in PAST_KINDS
    ]


def undeclared(overview: Overview, schema: FeatureSchema) -> list[Covered]:
    """Fields that the log has and the schema does not; of items also those of which events alone tell."""
    declared = {(field.scope, field.name) for field in schema.fields}
    present = {**overview.present, "item": overview.present["item"] + overview.of_unlisted}
    totals = {**overview.totals, "item": overview.totals["item"] + overview.unlisted}
    return [
        Covered(scope=scope, name=name, present=count, total=totals[scope])
        for scope, counts in present.items()
        for name, count in sorted(counts.items())
        if (scope, name) not in declared
    ]


def judge(dataset: Dataset, schema: FeatureSchema, overview: Overview, found: Findings) -> None:
    """Find what the log lacks that the schema asks for, and splits without a list."""
    if dataset.findings is not None:  # only an event log says what was done
        _judge_types(dataset.interaction_types, schema, found)
    if not any(overview.totals.values()):
        return
    _judge_splits(overview, found)
    _judge_dropped(dataset, overview, found)
    _judge_items(dataset, schema, overview, found)
    others = undeclared(overview, schema)
    for one in covered(overview, schema):
        if not one.present:
            message = f"{one}{_meant(one, others)}"
            found.add("field without a value", Effect.REFUSED, "", "", message, f"{one.scope}.{one.name}")
        elif words := overview.words.get((one.scope, one.name)):
            _judge_words(one, words, found)
    lists, scored = sum(overview.lists.values()), overview.scored
    if scored and not schema.initial_score:
        message = (
            f"`relevancy` comes with {scored:,} of {lists:,} lists and is not read: set "
            "features.initial_score = true"
        )
        found.add("scores that are not read", Effect.READ, "", "", message)
    if lists and not scored and schema.initial_score:
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


def _judge_splits(overview: Overview, found: Findings) -> None:
    people = len(set().union(*overview.people.values()))
    for split in SPLITS:
        if not overview.lists[split]:
            message = (
                f"{split}: no list; {people:,} people with usable lists are too few to split by person "
                "into 70 % training, 10 % validation, 20 % test"
            )
            found.add("split without a list", Effect.REFUSED, "", "", message, split)


def _judge_dropped(dataset: Dataset, overview: Overview, found: Findings) -> None:
    kept, dropped = sum(overview.lists.values()), sum(dataset.dropped.values())
    if dropped > kept:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dataset.dropped.items())
        message = (
            f"{dropped:,} of {kept + dropped:,} lists teach nothing ({reasons}): are rows of one list apart, "
            "or positive_types too few or too many?"
        )
        found.add("most lists left out", Effect.SUSPECT, "", "", message)


def _judge_items(dataset: Dataset, schema: FeatureSchema, overview: Overview, found: Findings) -> None:
    shown = overview.items.keys()
    if dataset.items and shown.isdisjoint(dataset.items):
        message = (
            f"none of the {len(shown):,} items in lists has a line of its own: lists have ids such as "
            f"{min(shown)!r}, lines such as {min(dataset.items)!r}"
        )
        found.add("items without a line", Effect.REFUSED, "", "", message)
    elif any(one.scope == "item" for one in covered(overview, schema)) and not any(overview.items.values()):
        message = (
            f"nothing but an id is known of any of the {len(shown):,} items in lists: add `item` lines. Of "
            "items a decision log has what requests sent; name a file of such lines by `item_records` in the "
            "configuration"
        )
        found.add("items without a line", Effect.REFUSED, "", "", message)


def _judge_words(field: Covered, words: Words, found: Findings) -> None:
    """Numbers that each stand for themselves where words are meant."""
    numbers = len(words.fractions)
    if numbers > max(FEW, words.values // 2) and words.only_numbers:
        message = (
            f"`{field.name}` is categorical and has {numbers:,} different numbers with fractions; did "
            "you mean kind `numeric`?"
        )
        found.add("numbers for words", Effect.REFUSED, "", "", message, f"{field.scope}.{field.name}")


def _meant(covered: Covered, undeclared: Sequence[Covered]) -> str:
    """A field of the log that may have been meant: the same name elsewhere, or nearly the same."""
    elsewhere = next((one for one in undeclared if one.name == covered.name), None)
    if elsewhere:
        many = f"{elsewhere.present:,} of {elsewhere.total:,} {SCOPES[elsewhere.scope]}"
        return f'; {many} have it: set scope = "{elsewhere.scope}"'
    names = [one.name for one in undeclared if one.scope == covered.scope]
    near = difflib.get_close_matches(covered.name, names, 1)
    return f"; did you mean `{near[0]}`?" if near else ""
