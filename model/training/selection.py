"""What weights are selected by: a score of greedy slates on the validation split, never on the test split.

Legend: B lists.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.data.slate import Dataset
from model.metrics import summary

Score = Callable[[list[NDArray[np.int64]]], tuple[float, dict[str, float]]]
"""Held-out slates, in the order of the held-out examples -> the score to maximise, and metrics."""


def held_out_score(dataset: Dataset) -> Score:
    """True value where the dataset knows it, else NDCG@10 of the logged labels; validation lists only."""
    slates = dataset.slates["validation"]
    labels = [slate.labels for slate in slates]

    def score(orders: list[NDArray[np.int64]]) -> tuple[float, dict[str, float]]:
        ranking = summary(orders, labels)
        if dataset.true_value is None:
            return ranking["ndcg@10"], {"ndcg@10": ranking["ndcg@10"]}
        values = [
            dataset.true_value(slate, order.tolist()) for slate, order in zip(slates, orders, strict=True)
        ]
        value = float(np.mean(values))
        return value, {"true_value": value, "ndcg@10": ranking["ndcg@10"]}

    return score
