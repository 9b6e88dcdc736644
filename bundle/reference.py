"""What a model did on held-out lists, as counts over fixed bins: what the service compares its traffic with.

Kept in the calibration: another threshold makes another model of it. The bins are the service's histogram
buckets, so that comparing costs a request nothing. No torch.
"""

from collections.abc import Sequence
from math import log
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import NonNegativeInt, model_validator

from bundle.features.schema import Frozen

ENTROPY_NATS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
SCORES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LIST_SIZES = (1, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500)
TRIGGERED = (0.0,)
"""Reasoning tokens of a position: none, or some."""

POSITIONS = 20
"""Positions told apart; whoever counts later ones counts them together."""


class Distribution(Frozen):
    """Counts of values at most each bound (and above the one before), then of those above the last."""

    bounds: tuple[float, ...]
    counts: tuple[NonNegativeInt, ...]

    @model_validator(mode="after")
    def _one_more_count_than_bounds(self) -> Self:
        if len(self.counts) != len(self.bounds) + 1:
            raise ValueError(f"{len(self.bounds)} bounds need one count more, got {len(self.counts)}")
        return self

    @classmethod
    def of(cls, values: ArrayLike, bounds: Sequence[float]) -> Self:
        bins = np.searchsorted(bounds, np.asarray(values, np.float64), side="left")
        counts = np.bincount(bins, minlength=len(bounds) + 1)
        return cls(bounds=tuple(bounds), counts=tuple(counts.tolist()))


class Reference(Frozen):
    """Held-out distributions under one threshold.

    Attributes:
        entropy: before reasoning, in nats, one distribution for each of the first `POSITIONS` positions.
        tokens: reasoning tokens of a position, in the bins `TRIGGERED`.
        score: probability of the chosen candidate among those left, as answers give it.
        list_size: candidates of a list.
    """

    entropy: tuple[Distribution, ...]
    tokens: Distribution
    score: Distribution
    list_size: Distribution

    @property
    def comparable(self) -> bool:
        """Whether its bins are still those of today."""
        pairs = [(self.tokens, TRIGGERED), (self.score, SCORES), (self.list_size, LIST_SIZES)]
        pairs += [(entropy, ENTROPY_NATS) for entropy in self.entropy]
        return all(distribution.bounds == bounds for distribution, bounds in pairs)


def population_stability_index(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Of two rows of counts over the same bins: sum((a - e) * ln(a / e)), `a` the actual shares and `e` the
    expected ones; 0 for equal ones, above 0.25 by convention another population. Every bin counts half an
    observation more: an empty one is no infinity."""
    shares = [
        [(count + 0.5) / (sum(counts) + 0.5 * len(counts)) for count in counts]
        for counts in (expected, actual)
    ]
    return sum((a - e) * log(a / e) for e, a in zip(shares[0], shares[1], strict=True))
