"""LambdaMART (Burges 2010, MSR-TR-2010-82) as LightGBM has it, on all numeric columns of a candidate."""

from collections.abc import Sequence

import lightgbm
import numpy as np
from numpy.typing import NDArray

from model.examples import Example

GRID = ({"num_leaves": 7, "min_data_in_leaf": 100}, {"num_leaves": 15, "min_data_in_leaf": 50})
"""What is tried; the better on held-out NDCG@10 is used."""


def rank(
    train: Sequence[Example],
    held_out: Sequence[Example],
    test: Sequence[Example],
    columns: Sequence[str],
    seed: int = 0,
) -> list[NDArray[np.int64]]:
    """Candidate indices by predicted score, best first."""
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
    _, best = max(boosters, key=lambda pair: pair[0])
    scores = best.predict(np.concatenate([example.inputs["candidate_numeric"] for example in test]))
    ends = np.cumsum([len(example.labels) for example in test])
    return [np.argsort(-part, kind="stable") for part in np.split(scores, ends[:-1])]


def _dataset(rows: Sequence[Example]) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        np.concatenate([example.inputs["candidate_numeric"] for example in rows]),
        np.concatenate([example.labels for example in rows]),
        group=[len(example.labels) for example in rows],
        free_raw_data=False,
    )
