"""Items by their smoothed click rate in the training log."""

import numpy as np
from numpy.typing import NDArray

from model.baselines.task import Task


def rank(task: Task) -> list[NDArray[np.int64]]:
    """Candidate indices by click rate, best first; ties stay in the caller's order.

    Raises:
        ValueError: the features have no item CTR.
    """
    column = list(task.columns).index("item_ctr")
    return [np.argsort(-row.inputs["candidate_numeric"][:, column], kind="stable") for row in task.test]
