"""What every dataset gives: slates by split, and raw items.

Knows nothing of where the slates come from or of the model. Legend: N candidates, L shown positions.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bundle.features.history import UserContext

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class LoggedSlate:
    """A list that was shown, with what was known before it.

    Attributes:
        candidates: item ids in the initial order.
        shown: indices into candidates in the order they were shown, `[L] int64`.
        labels: `[N] float32`, 1 = clicked (liked), 0 = not clicked or not shown.
        scores: the initial ranker's scores, NaN where an item has none, or None.
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
    """A named log.

    Attributes:
        dropped: lists left out of the slates, by reason.
        true_value: expected clicks of a slate of candidate indices, where it is known (the simulator).
    """

    name: str
    items: Mapping[str, Mapping[str, Any]]
    slates: Mapping[Split, Sequence[LoggedSlate]]
    dropped: Mapping[str, int]
    true_value: Callable[[LoggedSlate, Sequence[int]], float] | None = None

    def summary(self) -> str:
        sizes = ", ".join(f"{split} {len(self.slates[split])}" for split in SPLITS)
        dropped = ", ".join(f"{reason} {count}" for reason, count in sorted(self.dropped.items())) or "none"
        return f"{self.name}: {len(self.items)} items; slates: {sizes}; dropped: {dropped}"


def bucket_of(user_id: str, buckets: int) -> int:
    """A stable bucket of the user in 0..buckets-1."""
    return int(hashlib.sha256(user_id.encode()).hexdigest(), 16) % buckets


def split_of(user_id: str) -> Split:
    """The official split, by user: buckets 0..6 train, 7 validation, 8..9 test."""
    bucket = bucket_of(user_id, 10)
    return "train" if bucket <= 6 else "validation" if bucket == 7 else "test"
