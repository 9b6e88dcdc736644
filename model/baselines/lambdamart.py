"""LambdaMART (Burges 2010, MSR-TR-2010-82) as LightGBM has it, on all numeric columns of a candidate."""

from collections.abc import Sequence

import lightgbm
import numpy as np
from numpy.typing import NDArray

from model.baselines.task import Task
from model.training.examples import Example

GRID = ({"num_leaves": 7, "min_data_in_leaf": 100}, {"num_leaves": 15, "min_data_in_leaf": 50})
"""What is tried; the better on held-out NDCG@10 is used."""


class LambdaMART:
    """A fitted ranker."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster

    def scores(self, rows: Sequence[Example]) -> list[NDArray[np.float64]]:
        """Score of each candidate, `[N]` for each list."""
        flat = self._booster.predict(np.concatenate([row.inputs["candidate_numeric"] for row in rows]))
        return list(np.split(flat, np.cumsum([len(row.labels) for row in rows])[:-1]))


def fit(train: Sequence[Example], held_out: Sequence[Example], seed: int) -> LambdaMART:
    """Fit on `train`; the held-out lists choose the number of trees and the best of `GRID`."""
    fitted, validation = _dataset(train), _dataset(held_out)
    boosters = []
    for choice in GRID:
        booster = lightgbm.train(
            {
                "objective": "lambdarank",
                "metric": "ndcg",
                "ndcg_eval_at": [10],
                "lambdarank_truncation_level": 20,
                "learning_rate": 0.05,
                "feature_fraction": 0.8,
                "bagging_fraction": 0.8,
                "bagging_freq": 1,
                "seed": seed,
                "deterministic": True,
                "force_row_wise": True,
                "feature_pre_filter": False,
                "verbose": -1,
                **choice,
            },
            fitted,
            num_boost_round=800,
            valid_sets=[validation],
            callbacks=[lightgbm.early_stopping(60, verbose=False)],
        )
        boosters.append((booster.best_score["valid_0"]["ndcg@10"], booster))
    return LambdaMART(max(boosters, key=lambda pair: pair[0])[1])


def rank(task: Task) -> list[NDArray[np.int64]]:
    """Candidate indices by predicted score, best first."""
    ranker = fit(task.train, task.held_out, task.seed)
    return [np.argsort(-scores, kind="stable") for scores in ranker.scores(task.test)]


def _dataset(rows: Sequence[Example]) -> lightgbm.Dataset:
    """Only what was shown has a label to learn from."""
    return lightgbm.Dataset(
        np.concatenate([row.inputs["candidate_numeric"][row.shown] for row in rows]),
        np.concatenate([row.labels[row.shown] for row in rows]),
        group=[len(row.shown) for row in rows],
        free_raw_data=False,
    )
