"""Items by their smoothed click rate in the training log."""

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
    """Candidate indices by click rate, best first; ties stay in the caller's order.

    Raises:
        ValueError: the features have no item CTR.
    """
    column = list(columns).index("item_ctr")
    rates = (example.inputs["candidate_numeric"][:, column] for example in test)
    return [np.argsort(-rate, kind="stable") for rate in rates]
