"""What every dataset gives: slates by split, and raw items.

Knows nothing of where the slates come from or of the model. Legend: N candidates, L shown positions.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.features.history import UserContext
from model.data.findings import Findings

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class LoggedSlate:
    """A list that was shown, with what was known before it.

    Attributes:
        candidates: item ids in the initial order.
        shown: indices into candidates in the order they were shown, `[L] int64`.
        labels: `[N] float32`, 1 = clicked (liked), 0 = not clicked or not shown.
        scores: the initial ranker's scores, NaN where an item has none, or None.
        user: profile and history before this list.
        timestamp: unix seconds.
        features: what was sent with each candidate, or None.
        propensity: chance of each shown item given those before it, under the policy that chose it,
            `[L] float64`; None where it is not known. Training does not weight by it.
        anonymous: of somebody unknown; `user_id` is then of this list alone.
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
    features: Sequence[Mapping[str, Any]] | None = None
    propensity: NDArray[np.float64] | None = None
    anonymous: bool = False


class Positive(NamedTuple):
    """A positive event, whether of a list or not. `timestamp` in unix seconds; `value` is what the person
    gave, such as a rating, 1 where a log has none."""

    user_id: str
    item_id: str
    timestamp: float
    value: float = 1.0


@dataclass(frozen=True)
class Dataset:
    """A named log.

    Attributes:
        dropped: lists left out of the slates, by reason.
        true_value: expected clicks of a slate of candidate indices, where it is known (the simulator).
        positives: all positive events, those of dropped lists too.
        oracle: the best so many candidates of a slate, in order, as a search finds that knows the true value,
            where that is known.
        people: what is known of each person after the last list, by id; nobody for data that is not a log of
            one's own.
        interaction_types: how many interactions of each type an event log has.
        findings: what is wrong with an event log; None for other logs.
    """

    name: str
    items: Mapping[str, Mapping[str, Any]]
    slates: Mapping[Split, Sequence[LoggedSlate]]
    dropped: Mapping[str, int]
    true_value: Callable[[LoggedSlate, Sequence[int]], float] | None = None
    positives: Sequence[Positive] = ()
    oracle: Callable[[LoggedSlate, int], Sequence[int]] | None = None
    people: Mapping[str, UserContext] = field(default_factory=dict)
    interaction_types: Mapping[str, int] = field(default_factory=dict)
    findings: Findings | None = None

    def summary(self) -> str:
        sizes = ", ".join(f"{split} {len(self.slates[split])}" for split in SPLITS)
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.dropped.items()))
        lost, kept = sum(self.dropped.values()), sum(len(self.slates[split]) for split in SPLITS)
        dropped = f"{lost} of {lost + kept} lists, {lost / (lost + kept):.0%} ({reasons})" if lost else "none"
        return f"{self.name}: {len(self.items)} items; slates: {sizes}; dropped: {dropped}"


def bucket_of(user_id: str, buckets: int) -> int:
    """A stable bucket of the user in 0..buckets-1."""
    return int(hashlib.sha256(user_id.encode()).hexdigest(), 16) % buckets


def split_of(user_id: str) -> Split:
    """The official split, by user: buckets 0..6 train, 7 validation, 8..9 test."""
    bucket = bucket_of(user_id, 10)
    return "train" if bucket <= 6 else "validation" if bucket == 7 else "test"
