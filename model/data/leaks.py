"""Fields that may tell a list's labels without anything to learn from. They are suspected, never refused.

Legend: N candidates of a list.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.features.fitting import as_list, as_token, raw_number
from bundle.features.schema import PAST_KINDS, FeatureSchema, FieldSpec
from model.data.findings import Effect, Findings
from model.data.slate import LoggedSlate, bucket_of

LISTS = 1_000
"""Lists that are looked at, the first."""

FEWEST = 30
"""Lists or people that a suspicion needs."""

TELLING = 0.95
"""A field that orders more of a list's pairs of a clicked and another item by itself is suspected."""

Records = Mapping[str, Mapping[str, Any]]


def suspect(slates: Iterable[LoggedSlate], items: Records, schema: FeatureSchema, found: Findings) -> None:
    """Find ids among the features, and item fields that order lists by their labels."""
    looked = list(islice(slates, LISTS))
    for field in schema.fields:
        if field.is_token:
            _suspect_id(field, looked, found)
    lists = [slate for slate in looked if 0 < slate.labels.sum() < len(slate.labels)]
    if schema.initial_score:
        scores = [np.array(slate.scores or [np.nan] * len(slate.labels)) for slate in lists]
        _suspect_order("`relevancy`", scores, lists, found)
    for field in schema.of("item"):
        if field.kind in PAST_KINDS or field.kind == "vector":
            continue
        values = [_values(field, slate, items) for slate in lists]
        numbers = (
            _click_rates(values, lists)
            if field.is_token
            else [
                np.array([raw_number(field, value, slate.timestamp) for value in own])
                for own, slate in zip(values, lists, strict=True)
            ]
        )
        _suspect_order(f"`{field.name}`", numbers, lists, found)
        there = [np.array([float(value is not None) for value in own]) for own in values]
        _suspect_order(f"whether there is a `{field.name}`", there, lists, found)


def _suspect_id(field: FieldSpec, slates: Sequence[LoggedSlate], found: Findings) -> None:
    """A field that has another value for every list, or person, is their id."""
    by_value: defaultdict[str, set[str]] = defaultdict(set)
    owners = set()
    for owner, value in _owned(field, slates):
        if value is not None:
            by_value[as_token(value)].add(owner)
            owners.add(owner)
    if len(owners) >= FEWEST and all(len(of) == 1 for of in by_value.values()):
        whose = "person" if field.scope == "user" else "list"
        message = (
            f"`{field.name}` is another one for every {whose}, {len(owners):,} of them: an id, which says "
            "nothing of others"
        )
        found.add("id as a feature", Effect.SUSPECT, "", "", message, f"{field.scope}.{field.name}")


def _owned(field: FieldSpec, slates: Sequence[LoggedSlate]) -> Iterator[tuple[str, Any]]:
    """Each value of the field that came with a list, and the id of the list, or the person, whose it is."""
    for slate in slates:
        if field.scope == "user":
            yield slate.user_id, slate.user.profile.get(field.name)
        elif field.scope == "context":
            yield slate.request_id, slate.context.get(field.name)
        else:
            for own in slate.features or ():
                yield slate.request_id, own.get(field.name)


def _values(field: FieldSpec, slate: LoggedSlate, items: Records) -> list[Any]:
    """The field of each candidate, as sent with it or else as in its record. `[N]`."""
    sent = slate.features or [{}] * len(slate.candidates)
    return [
        own.get(field.name, items.get(item_id, {}).get(field.name))
        for item_id, own in zip(slate.candidates, sent, strict=True)
    ]


def _click_rates(values: Sequence[list[Any]], slates: Sequence[LoggedSlate]) -> list[NDArray[np.float64]]:
    """The mean click rate that each candidate's values have with the other half of people, `[N]` a list; NaN
    where they have none."""
    halves = [bucket_of(f"half:{slate.user_id}", 2) for slate in slates]
    clicks: tuple[defaultdict[str, float], ...] = (defaultdict(float), defaultdict(float))
    shown: tuple[defaultdict[str, int], ...] = (defaultdict(int), defaultdict(int))
    tokens = [[[as_token(one) for one in as_list(value)] for value in own] for own in values]
    for own, slate, half in zip(tokens, slates, halves, strict=True):
        for of_item, label in zip(own, slate.labels.tolist(), strict=True):
            for token in of_item:
                clicks[1 - half][token] += label
                shown[1 - half][token] += 1

    def rate(of_item: list[str], half: int) -> float:
        known = [token for token in of_item if token in shown[half]]
        return sum(clicks[half][one] / shown[half][one] for one in known) / len(known) if known else np.nan

    return [
        np.array([rate(of_item, half) for of_item in own]) for own, half in zip(tokens, halves, strict=True)
    ]


def _suspect_order(
    what: str, values: Sequence[NDArray[np.float64]], slates: Sequence[LoggedSlate], found: Findings
) -> None:
    """Suspect values, `[N]` a list, that put clicked items before the others, or behind them, in nearly all
    pairs of a list; ties count half."""
    shares = []
    for own, slate in zip(values, slates, strict=True):
        known = np.isfinite(own)
        clicked, others = own[known & (slate.labels > 0)], own[known & (slate.labels == 0)]
        if len(clicked) and len(others):
            shares.append(((clicked[:, None] > others).mean() + (clicked[:, None] >= others).mean()) / 2)
    share = float(np.mean(shares)) if len(shares) >= FEWEST else 0.5
    if not 1 - TELLING < share < TELLING:
        message = (
            f"{what} tells clicked items from others of their list in {max(share, 1 - share):.0%} of pairs: "
            "is it known before the click?"
        )
        found.add("field that tells the label", Effect.SUSPECT, "", "", message, what)
