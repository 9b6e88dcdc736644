"""The order the candidates came in."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.examples import Example


def rank(
    train: Sequence[Example],
    held_out: Sequence[Example],
    test: Sequence[Example],
    columns: Sequence[str],
    seed: int = 0,
) -> list[NDArray[np.int64]]:
    """Candidate indices in the caller's order."""
    return [np.arange(len(example.labels)) for example in test]
