"""What weights are selected by: a score of greedy slates on the validation split, never on the test split.

Legend: B lists, K positions of the longest.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.contract import NO_ITEM
from model.data.slate import Dataset
from model.evaluator import ClickModel
from model.metrics import summary
from model.training import devices
from model.training.examples import Example, batches

BATCH = 256

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


def evaluator_score(evaluator: ClickModel, held_out: Sequence[Example]) -> Score:
    """What the evaluator makes of them, and nothing of what was clicked."""

    def score(orders: list[NDArray[np.int64]]) -> tuple[float, dict[str, float]]:
        value = float(rewards(evaluator, held_out, orders).mean())
        return value, {"evaluator_score": value}

    return score


@torch.no_grad()
def rewards(
    evaluator: ClickModel, rows: Sequence[Example], orders: Sequence[NDArray[np.int64]]
) -> NDArray[np.float32]:
    """The evaluator's own score of a slate of each list. `[B]`."""
    slates = np.full((len(orders), max(map(len, orders))), NO_ITEM, np.int64)
    for row, order in enumerate(orders):
        slates[row, : len(order)] = order
    found, start = [], 0
    for batch in batches(rows, BATCH):
        part = devices.tensor(slates[start : start + BATCH])
        found.append(evaluator.reward(evaluator.encode(batch.inputs), part))
        start += BATCH
    return torch.cat(found).cpu().numpy()
