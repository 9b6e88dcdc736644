"""Items by the score that the initial ranker gave them: the first stage alone."""

import numpy as np
from numpy.typing import NDArray

from model.baselines.task import Task


def rank(task: Task) -> list[NDArray[np.int64]]:
    """Candidate indices by score, best first; ties stay in the caller's order.

    Raises:
        ValueError: the features have no initial score.
    """
    column = list(task.columns).index("initial_score")
    return [np.argsort(-row.inputs["candidate_numeric"][:, column], kind="stable") for row in task.test]
