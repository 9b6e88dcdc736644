"""What every baseline is given: the same lists, features and seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.encoder import FeatureSizes
from model.evaluator import ClickModel
from model.training.examples import Example
from model.training.selection import Score


@dataclass(frozen=True)
class Task:
    """Fit on `train`, choose by `score` on `held_out`, rank `test`.

    Attributes:
        columns: names of the columns of `candidate_numeric`.
        evaluator: the reward of the baselines that learn from one.
        run: where a fit may keep its state.
    """

    train: Sequence[Example]
    held_out: Sequence[Example]
    test: Sequence[Example]
    columns: Sequence[str]
    sizes: FeatureSizes
    slate_length: int
    seed: int
    score: Score
    evaluator: ClickModel | None
    run: Path


Rank = Callable[[Task], list[NDArray[np.int64]]]
"""Candidate indices for each test list, best first; at least the first `slate_length`."""
