"""A configuration for a log, by what its fields look like: kinds, vocabularies, ids, ages, embeddings.

It is a place to begin at: what was guessed, and from what, stands beside each field.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.features.fitting import as_token
from bundle.features.schema import FeatureSchema, FieldSpec, Scope
from bundle.timestamps import read_time
from model.data.declared_fields import is_number, separator
from model.data.event_log import dataset_of
from model.data.findings import LARGEST_DIRT_SHARE, Findings
from model.data.leaks import suspect
from model.data.log_events import EARLIEST_S
from model.data.log_lines import read_values
from model.data.overview import Overview, slates_of
from model.data.slate import Dataset

RECENT_S = (3e8, 2.5e9)
"""1979 to 2049: whole numbers that are nearly all in it, in any unit, look like times."""

FEW = 20
"""Different whole numbers that may be names of something."""

SKEWED = 20.0
"""Largest number over the median, from which on a logarithm is taken."""

MANY = 120
"""Different whole numbers, more than ages, hours or shares in percent are, of which none is left out between
the smallest and the largest: counts leave some out, codes do not."""

EVEN = 0.25
"""How far the share of values below a number may be from even, in codes of which most are not there; what is
measured mostly has many small values and few large ones."""

SPARSE = 0.1
"""Of the whole numbers between the smallest and the largest, the share that is most of them not there."""

LONG_TEXT = 40
"""Characters in the mean: what is longer is prose, of which the length is read."""

RARE = 1_000
"""Records from which on values that only a few have are left to the unknown."""

SEEN_ONLY = ("impression", "view", "show", "exposure", "hover")
"""Interaction types that say that something was seen, not that it was liked."""

TIME_NAME = re.compile(r"date|time|_at$|^at$|born|birth|created|released|published", re.IGNORECASE)
CODE_NAME = re.compile(r"(^|_)(code|category|class|type|kind|zip|onehot)(_|\d|$)", re.IGNORECASE)
ID_NAME = re.compile(r"(^|_)(id|uuid|guid|sku|ean|isbn|url|hash)$", re.IGNORECASE)


@dataclass(slots=True)
class Seen:
    """The values of one field."""

    count: int = 0
    numbers: list[float] = field(default_factory=list)
    flags: int = 0
    texts: list[str] = field(default_factory=list)
    lists: list[list[Any]] = field(default_factory=list)
    objects: int = 0

    def add(self, value: Any) -> None:
        self.count += 1
        if isinstance(value, bool):
            self.flags += 1
        elif is_number(value):
            self.numbers.append(value)
        elif isinstance(value, str):
            self.texts.append(value)
        elif isinstance(value, list):
            self.lists.append(value)
        else:
            self.objects += 1


def propose(path: Path) -> str:
    """TOML that `python -m model.train` takes, for a log in the event format.

    Raises:
        DataUnavailableError: there is no such log.
        EventLogError: it cannot be read.
    """
    found = Findings()
    dataset = dataset_of(read_values(path, found), path.stem, found)
    found.refuse()
    positive, types = _positive_types(dataset), _types(dataset)
    if positive != ["click"]:  # other lists can be learned from
        dataset, _ = _as_read(path, [], positive)
    lines, left_out, item_fields = [], [], 0
    proposed: list[tuple[dict[str, Any], str]] = []
    overview = Overview(dataset)
    people = {slate.user_id: slate.user.profile for slate in slates_of(dataset)}
    every: dict[Scope, Sequence[Mapping[str, Any]]] = {
        "item": list(overview.items.values()),
        "user": list(people.values()),
        "context": [slate.context for slate in slates_of(dataset)],
    }
    for scope, records in every.items():
        seen: defaultdict[str, Seen] = defaultdict(Seen)
        for record in records:
            for name, value in record.items():
                if value is not None:
                    seen[name].add(value)
        for name, values in seen.items():
            keys, why = guessed(name, values, scope)
            told = f"{why}; {values.count:,} of {len(records):,}"
            if keys is None:
                left_out.append(f"# {scope} `{name}` is left out: {told}")
                continue
            own = {"name": name, **keys, **({} if scope == "item" else {"scope": scope})}
            proposed.append((own, told))
    suspected = _suspected(path, [own for own, _ in proposed], positive)
    for (own, told), suspicion in zip(proposed, suspected, strict=True):
        mark, why = ("# ", f"{suspicion}; {told}") if suspicion else ("", told)
        lines.append(f"  {mark}{_inline(own)},  # {why}")
        item_fields += "scope" not in own and not suspicion
    if not item_fields:
        lines.append('  { name = "popularity", kind = "popularity", log = true },  # clicks before the list')
    return "\n".join(
        [
            f"# Proposed for {path.name}. Everything not said here has its default.",
            "",
            'dataset = "event_log"',
            f"event_log = {json.dumps(str(path), ensure_ascii=False)}",
            "",
            "[features]",
            f"positive_types = {json.dumps(positive, ensure_ascii=False)}  # there are: {types}",
            *(["initial_score = true"] if overview.scored else []),
            "fields = [",
            *lines,
            "]",
            *left_out,
            "",
        ]
    )


def _as_read(
    path: Path, fields: list[dict[str, Any]], positive: list[str]
) -> tuple[Dataset, tuple[FieldSpec, ...]]:
    """The log as fields of these keys read it, and the fields; one that is counted comes after them."""
    always = {"name": " ", "kind": "popularity"}  # a schema needs a field of the item
    schema = FeatureSchema.model_validate({"fields": [*fields, always], "positive_types": positive})
    return dataset_of(read_values(path, Findings()), path.stem, Findings(), schema), schema.fields


def _suspected(path: Path, fields: list[dict[str, Any]], positive: list[str]) -> list[str]:
    """What each field of these keys is suspected of, in the log as they read it; empty where nothing is."""
    dataset, (*specs, always) = _as_read(path, fields, positive)
    suspected = []
    for spec in specs:
        found = Findings()
        suspect(slates_of(dataset), dataset.items, FeatureSchema(fields=(spec, always)), found)
        suspected.append(", ".join(finding.message for finding in found))
    return suspected


def guessed(name: str, seen: Seen, scope: Scope) -> tuple[dict[str, Any] | None, str]:
    """The keys of a field that has these values, None if it is of no use, and why."""
    if seen.objects:
        return None, "objects are of no kind"
    counts = {
        "numbers": len(seen.numbers),
        "flags": seen.flags,
        "texts": len(seen.texts),
        "lists": len(seen.lists),
    }
    kind, most = max(counts.items(), key=lambda one: one[1])
    if most < (1 - LARGEST_DIRT_SHARE) * seen.count:
        return None, f"{' and '.join(name for name, count in counts.items() if count)} at once"
    liked = {"affinity": True} if scope == "item" else {}
    if kind == "flags":
        return {"kind": "categorical", **liked}, "true and false"
    if kind == "lists":
        return _of_lists(seen, liked)
    return _of_numbers(name, seen, scope) if kind == "numbers" else _of_texts(name, seen, liked)


def _of_numbers(name: str, seen: Seen, scope: Scope) -> tuple[dict[str, Any] | None, str]:
    values = np.array(seen.numbers, np.float64)
    different = len(np.unique(values))
    whole = bool((values == np.round(values)).all())
    listed = {"list_rank": True, "affinity": True} if scope == "item" else {}
    if different == 1 and seen.count > 1:
        return None, f"always {seen.numbers[0]:g}"
    if whole and (_like_times(values) or (TIME_NAME.search(name) and np.median(abs(values)) > EARLIEST_S)):
        return {"kind": "age", **listed}, "looks like unix time"
    if whole and ID_NAME.search(name):
        return _id_or_words(different, seen.count, listed)
    few = different <= min(FEW, seen.count // 10)
    between = values.max() - values.min() + 1
    gaps = different < max(values.max(), between)
    if whole and few and (scope == "context" or different == 2 or gaps):
        return {"kind": "categorical", **_affine(listed)}, f"{different} different whole numbers"
    if whole and (CODE_NAME.search(name) or _like_codes(np.unique(values))):
        keys, why = _id_or_words(different, seen.count, listed)
        return keys, f"{why}, {values.min():.0f} to {values.max():.0f}, looks like a code"
    logarithm = values.min() >= 0 and values.max() > SKEWED * max(float(np.median(values)), 1.0)
    told = f"{values.min():g} to {values.max():g}"
    if whole and different == between:
        told += ", every whole number: categorical if they are codes"
    return {"kind": "numeric", **({"log": True} if logarithm else {}), **listed}, told


def _of_texts(name: str, seen: Seen, liked: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    different = len(set(seen.texts))
    if sum(map(_is_date, seen.texts)) > 0.95 * seen.count:
        return {"kind": "age", **({"list_rank": True, **liked} if liked else {})}, "looks like dates"
    if different == 1 and seen.count > 1:
        return None, f"always {seen.texts[0]!r:.40}"
    joined = Counter(mark for text in seen.texts if (mark := separator(text)))
    mark = joined.most_common(1)[0][0] if joined else ","
    parts = {part.strip() for text in seen.texts for part in text.split(mark)}
    if joined.total() > seen.count / 2 and len(parts) < different:
        return None, f"looks like a list in a text, with {mark!r} between values: write it as a list"
    mean = sum(map(len, seen.texts)) / seen.count
    prose = mean > LONG_TEXT or sum(" " in text for text in seen.texts) > seen.count / 2
    if different > 0.9 * seen.count and seen.count > FEW:
        if prose:
            return {"kind": "text_length", **({"log": True} if mean > LONG_TEXT else {})}, "prose"
        return None, f"{different:,} different texts, looks like an id"
    return _id_or_words(different, seen.count, liked)


def _of_lists(seen: Seen, liked: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    sizes = np.array([len(value) for value in seen.lists])
    flat = [one for value in seen.lists for one in value]
    if not flat:
        return None, "empty lists"
    if all(map(is_number, flat)) and not all(float(one).is_integer() for one in flat):
        if sizes.min() < sizes.max():
            return None, f"lists of {sizes.min()} to {sizes.max()} numbers, where a vector has one size"
        return {"kind": "vector", "size": int(sizes[0]), **liked}, "looks like an embedding"
    if not all(isinstance(one, (str, int, float)) for one in flat):
        return None, "lists of something else than words or numbers"
    counts = Counter(map(as_token, flat))
    most = max(1, int(sizes.max() if sizes.max() <= FEW else np.percentile(sizes, 90)))
    told = f"{len(counts):,} different values, {sizes.min()} to {sizes.max()} each"
    return {"kind": "multivalued", "max_values": most, **_rare(seen.count, counts), **liked}, told


def _id_or_words(different: int, count: int, liked: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    told = f"{different:,} different values"
    if different > 0.9 * count and count > FEW:
        return None, f"{told}, looks like an id"
    rare = {"min_count": 3} if different > FEW and count >= RARE else {}
    return {"kind": "categorical", **rare, **_affine(liked)}, told


def _rare(count: int, counts: Counter[str]) -> dict[str, Any]:
    return {"min_count": 3} if len(counts) > FEW and count >= RARE else {}


def _affine(keys: dict[str, Any]) -> dict[str, Any]:
    """Of keys of any field those that words may have, too."""
    return {name: value for name, value in keys.items() if name == "affinity"}


def _like_codes(different: NDArray[np.float64]) -> bool:
    """Whether different whole numbers, in order, are spread as evenly as those that are given out in turn."""
    if len(different) <= FEW:
        return False
    place = (different - different[0]) / (different[-1] - different[0])
    uneven = np.abs(place - np.linspace(0, 1, len(different))).max()
    there = len(different) / (different[-1] - different[0] + 1)
    return bool((there == 1 and len(different) > MANY) or (there < SPARSE and uneven < EVEN))


def _like_times(values: Any) -> bool:
    """Whether nearly all are a time of late, in the same unit."""
    low, high = RECENT_S
    return any(
        np.mean((values >= low * unit) & (values <= high * unit)) > 0.95 for unit in (1.0, 1e3, 1e6, 1e9)
    )


def _is_date(text: str) -> bool:
    if not re.match(r"\d{4}-\d{2}", text):
        return False
    try:
        read_time(text)
    except ValueError:
        return False
    return True


def _positive_types(dataset: Dataset) -> list[str]:
    likes = [kind for kind, _ in Counter(dataset.interaction_types).most_common()]
    likes = [kind for kind in likes if kind.lower() not in SEEN_ONLY]
    return ["click"] if "click" in likes or not likes else likes


def _types(dataset: Dataset) -> str:
    counts = Counter(dataset.interaction_types).most_common()
    return ", ".join(f"{kind} {count:,}" for kind, count in counts) or "none"


def _inline(keys: dict[str, Any]) -> str:
    return (
        "{ "
        + ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in keys.items())
        + " }"
    )
