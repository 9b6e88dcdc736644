"""The order the candidates came in."""

import numpy as np
from numpy.typing import NDArray

from model.baselines.task import Task


def rank(task: Task) -> list[NDArray[np.int64]]:
    """Candidate indices in the caller's order."""
    return [np.arange(len(example.labels)) for example in task.test]
