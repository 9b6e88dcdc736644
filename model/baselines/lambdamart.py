"""LambdaMART (Burges 2010, MSR-TR-2010-82) as LightGBM has it.

By default on all numeric columns of a candidate; `rank_plain` leaves the initial ranker's score out, and
`rank_all_columns` adds what else the policies see: user and context columns, and tokens, one column each.
Legend: N candidates, F columns.
"""

from collections.abc import Callable, Iterable, Sequence

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from model.baselines.task import Task
from model.training.examples import Example

GRID = ({"num_leaves": 7, "min_data_in_leaf": 100}, {"num_leaves": 15, "min_data_in_leaf": 50})
"""What is tried; the better on held-out lists is used."""

TREES = (25, 50, 100, 200, 400, 800)
"""Beside the number of trees that NDCG would stop at, what held-out lists may choose from."""

FEWEST_LISTS = 20
"""Training lists that a token must be in to have a column."""

Table = Callable[[Example], NDArray[np.float32] | sparse.csr_matrix]
"""The columns of a list's candidates, `[N, F]`."""


class LambdaMART:
    """A fitted ranker that uses the first `trees`; all of them where that is None."""

    def __init__(self, booster: lightgbm.Booster, table: Table, trees: int | None = None) -> None:
        self._booster, self._table, self._trees = booster, table, trees

    def scores(self, rows: Sequence[Example]) -> list[NDArray[np.float64]]:
        """Score of each candidate, `[N]` for each list."""
        flat = self._booster.predict(_stacked(map(self._table, rows)), num_iteration=self._trees)
        return list(np.split(flat, np.cumsum([len(row.labels) for row in rows])[:-1]))

    def orders(self, rows: Sequence[Example]) -> list[NDArray[np.int64]]:
        """Candidate indices by score, best first."""
        return [np.argsort(-scores, kind="stable") for scores in self.scores(rows)]


def numeric(row: Example) -> NDArray[np.float32]:
    """All numeric columns of a candidate."""
    table: NDArray[np.float32] = row.inputs["candidate_numeric"]
    return table


def fit(
    train: Sequence[Example], held_out: Sequence[Example], seed: int, table: Table = numeric
) -> LambdaMART:
    """Fit on `train`; NDCG@10 of the held-out lists chooses the number of trees and the best of `GRID`."""
    found = boosters(train, held_out, seed, table)
    return LambdaMART(max(found, key=lambda booster: booster.best_score["valid_0"]["ndcg@10"]), table)


def boosters(
    train: Sequence[Example], held_out: Sequence[Example], seed: int, table: Table
) -> list[lightgbm.Booster]:
    """One for each of `GRID`, grown while NDCG@10 of the held-out lists rises."""
    fitted, validation = _dataset(train, table), _dataset(held_out, table)
    return [
        lightgbm.train(
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
        for choice in GRID
    ]


def rank(task: Task, table: Table = numeric) -> list[NDArray[np.int64]]:
    """Candidate indices by predicted score, best first; grown and chosen by the task's own score."""
    best: tuple[float, LambdaMART] | None = None
    for booster in boosters(task.train, task.held_out, task.seed, table):
        grown = booster.current_iteration()
        for trees in sorted({booster.best_iteration, *(trees for trees in TREES if trees < grown)}):
            ranker = LambdaMART(booster, table, trees)
            score, _ = task.score([order[: task.slate_length] for order in ranker.orders(task.held_out)])
            if best is None or score > best[0]:
                best = score, ranker
    assert best is not None
    return best[1].orders(task.test)


def rank_plain(task: Task) -> list[NDArray[np.int64]]:
    """Without what the initial ranker scored."""
    kept = [index for index, name in enumerate(task.columns) if not name.endswith("initial_score")]
    return rank(task, lambda row: numeric(row)[:, kept])


def rank_all_columns(task: Task) -> list[NDArray[np.int64]]:
    """With user, context and token columns."""
    lists = np.zeros(task.sizes.vocabulary, np.int64)
    for row in task.train:
        lists[np.unique(_tokens(row))] += 1
    lists[0] = 0  # padding
    column = np.full(task.sizes.vocabulary, -1)
    column[lists >= FEWEST_LISTS] = np.arange((lists >= FEWEST_LISTS).sum())

    def table(row: Example) -> sparse.csr_matrix:
        tokens = column[_tokens(row)]  # [N, T]
        there = tokens >= 0
        own = np.nonzero(there)[0]
        known = sparse.csr_matrix(
            (np.ones(len(own), np.float32), (own, tokens[there])), (len(tokens), int(column.max()) + 1)
        )
        user = np.broadcast_to(row.inputs["user_numeric"], (len(tokens), len(row.inputs["user_numeric"])))
        return sparse.hstack([np.hstack([numeric(row), user]), known], format="csr")

    return rank(task, table)


def _tokens(row: Example) -> NDArray[np.int32]:
    """The candidates' tokens, then the user's and the context's. `[N, T]`."""
    own, user = row.inputs["candidate_tokens"], row.inputs["user_tokens"]
    return np.hstack([own, np.broadcast_to(user, (len(own), len(user)))])


def _stacked(
    tables: Iterable[NDArray[np.float32] | sparse.csr_matrix],
) -> NDArray[np.float32] | sparse.csr_matrix:
    found = list(tables)
    return sparse.vstack(found, format="csr") if sparse.issparse(found[0]) else np.concatenate(found)


def _dataset(rows: Sequence[Example], table: Table) -> lightgbm.Dataset:
    """Only what was shown has a label to learn from."""
    return lightgbm.Dataset(
        _stacked(table(row)[row.shown] for row in rows),
        np.concatenate([row.labels[row.shown] for row in rows]),
        group=[len(row.shown) for row in rows],
        free_raw_data=False,
    )
