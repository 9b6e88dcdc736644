"""What every dataset gives: slates by split, raw items, and how they become arrays.

Knows nothing of where the slates come from or of the model. Legend: N candidates, L shown positions.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.features.assembly import Candidates, FeatureAssembler
from model.features.catalogue import Catalogue
from model.features.fitting import FittedFeatures, fit
from model.features.history import UserContext
from model.features.schema import FeatureSchema

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class LoggedSlate:
    """A list that was shown, with what was known before it.

    Attributes:
        candidates: item ids in the initial order.
        shown: indices into candidates in the order they were shown, `[L] int64`.
        labels: `[N] float32`, 1 = clicked (liked), 0 = not clicked or not shown.
        scores: the initial ranker's scores, or None.
        user: profile and history before this list.
        timestamp: unix seconds.
    """

    request_id: str
    user_id: str
    candidates: tuple[str, ...]
    shown: NDArray[np.int64]
    labels: NDArray[np.float32]
    timestamp: float
    scores: tuple[float, ...] | None = None
    user: UserContext = field(default_factory=UserContext)
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A named log. `dropped` counts what was left out of the slates, by reason."""

    name: str
    items: Mapping[str, Mapping[str, Any]]
    slates: Mapping[Split, Sequence[LoggedSlate]]
    dropped: Mapping[str, int]

    def summary(self) -> str:
        sizes = ", ".join(f"{split} {len(self.slates[split])}" for split in SPLITS)
        dropped = ", ".join(f"{reason} {count}" for reason, count in sorted(self.dropped.items())) or "none"
        return f"{self.name}: {len(self.items)} items; slates: {sizes}; dropped: {dropped}"


def split_of(user_id: str) -> Split:
    """The official split, by user: buckets 0..6 train, 7 validation, 8..9 test."""
    bucket = int(hashlib.sha256(user_id.encode()).hexdigest(), 16) % 10
    return "train" if bucket <= 6 else "validation" if bucket == 7 else "test"


def fit_features(dataset: Dataset, schema: FeatureSchema) -> FeatureAssembler:
    """Fit vocabularies, scales and click counts on the training split only."""
    train = dataset.slates["train"]
    clicks: Counter[str] = Counter()
    impressions: Counter[str] = Counter()
    for slate in train:
        for index in slate.shown:
            impressions[slate.candidates[index]] += 1
            clicks[slate.candidates[index]] += int(slate.labels[index])
    fitted = fit(
        schema,
        items=[dataset.items[item_id] for item_id in sorted(impressions) if item_id in dataset.items],
        users=[slate.user.profile for slate in train],
        contexts=[slate.context for slate in train],
        timestamp=max(slate.timestamp for slate in train),
        clicks=clicks.total(),
        impressions=impressions.total(),
    )
    shown_without_record = {item_id: {} for item_id in impressions if item_id not in dataset.items}
    counts = {item_id: (clicks[item_id], count) for item_id, count in impressions.items()}
    return FeatureAssembler(
        fitted, Catalogue.build(fitted, {**dataset.items, **shown_without_record}, counts)
    )


def assemble(slate: LoggedSlate, assembler: FeatureAssembler, training: bool) -> Arrays:
    """Encoder inputs of a slate. In training its own events are left out of the items' click rates."""
    shown = np.zeros(len(slate.candidates), np.float32)
    shown[slate.shown] = 1.0
    return assembler.request(
        Candidates(slate.candidates, scores=slate.scores),
        slate.user,
        slate.context,
        slate.timestamp,
        own_events=(slate.labels * shown, shown) if training else None,
    )
