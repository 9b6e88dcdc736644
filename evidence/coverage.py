"""A goal that is not additive over items, on real logs: `python -m evidence.coverage --data ranklens`.

Where order and neighbours are worth nothing to a click model, sorting by each item's own probability gives
the most clicks. It need not give the most lists with at least one, since a person's clicks go together, nor
the most genres among them. Compared are an initial ranker's order, greedy diversification of its
probabilities, the evaluator's beam search for its reward and for at least one click, and finished fits.
Legend: N candidates, G genres, K positions.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.contract import NO_ITEM
from evidence.cell import Cell, open_cell
from evidence.data import FROM_SCORE
from evidence.fit import SLATES, Orders
from evidence.grid import SEEDS, Task
from evidence.pages import table
from model.metrics import gains, paired_difference
from model.progress import console
from model.training.beam import best_slates
from model.training.examples import Example, batches

GENRES = {"ranklens": "genres", "movietweetings": "genres", "kuairand-scored": "tags"}
"""The field that says what an item is about."""

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Of diversity, that validation lists choose from for each metric; 0 sorts by probability."""

LENGTH = 10
FIRST_K = {"a click in the first": 1, "in the first 3": 3, "in the first 5": 5}
FIRST = "initial ranker"
FITS = ("LambdaMART", "EGLR", "without reasoning", *FROM_SCORE)

Floats = NDArray[np.floating]
Values = dict[str, Floats]
"""Of each list, by the name of the metric."""

Diversify = Callable[[Floats, Floats, float, int], NDArray[np.int64]]
"""Probabilities `[N]`, genres `[N, G]`, share of diversity, length -> candidate indices."""


def alpha_ndcg(order: NDArray[np.int64], topics: Floats, k: int = 10, alpha: float = 0.5) -> float:
    """Clarke et al. 2008, eqs. 5 and 7, the ideal order found greedily as there.

    Args:
        topics: `[N, G]`, 1 where a candidate is relevant to a genre; NaN is returned if none is to any.
    """
    if not topics.any():
        return float("nan")
    ideal: list[int] = []
    seen = np.zeros(topics.shape[1])
    for _ in range(min(k, len(topics))):
        worth = topics @ (1 - alpha) ** seen
        worth[ideal] = -1.0
        ideal.append(int(worth.argmax()))
        seen += topics[ideal[-1]]
    found, best = (_alpha_dcg(topics[list(items)[:k]], alpha) for items in (order, ideal))
    return found / best


def _alpha_dcg(topics: Floats, alpha: float) -> float:
    """Of the genres of a list's items in order, `[K, G]`."""
    before = np.cumsum(topics, axis=0) - topics
    return float((topics * (1 - alpha) ** before).sum(1) @ (1 / np.log2(np.arange(len(topics)) + 2.0)))


def mmr(p: Floats, topics: Floats, share: float, k: int) -> NDArray[np.int64]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998) with the cosine of genres."""
    unit = topics / np.maximum(np.linalg.norm(topics, axis=1, keepdims=True), 1e-9)
    nearest = np.zeros(len(p))
    chosen: list[int] = []
    for _ in range(min(k, len(p))):
        worth = (1 - share) * p - share * nearest
        worth[chosen] = -np.inf
        chosen.append(int(worth.argmax()))
        nearest = np.maximum(nearest, unit @ unit[chosen[-1]])
    return np.array(chosen)


def xquad(p: Floats, topics: Floats, share: float, k: int) -> NDArray[np.int64]:
    """xQuAD (Santos et al. 2010): a genre counts by what is expected of it in the whole list."""
    own = p[:, None] * topics  # [N, G]
    interest = own.sum(0) / max(own.sum(), 1e-9)
    left = np.ones(topics.shape[1])
    chosen: list[int] = []
    for _ in range(min(k, len(p))):
        worth = (1 - share) * p + share * (own * left) @ interest
        worth[chosen] = -np.inf
        chosen.append(int(worth.argmax()))
        left = left * (1 - own[chosen[-1]])
    return np.array(chosen)


class Lists:
    """Held-out or test lists of a cell, with genres and the initial ranker's probabilities of a click."""

    def __init__(self, cell: Cell, rows: list[Example], genres: str, weights: Floats) -> None:
        self.cell, self.rows = cell, rows
        fields = cell.features.catalogue.encoder.token_fields
        place = next(place for field, place in fields if field.name == genres)
        self.topics = [_members(row.inputs["candidate_tokens"][:, place]) for row in rows]
        self.p = [_sigmoid(_scores(cell, row) @ weights) for row in rows]

    def measure(self, orders: Orders) -> Values:
        liked = (topics * row.labels[:, None] for topics, row in zip(self.topics, self.rows, strict=True))
        alpha = [alpha_ndcg(*pair) for pair in zip(orders, liked, strict=True)]
        labels = [row.labels for row in self.rows]
        values = {name: (gains(orders, labels, k).sum(1) > 0).astype(float) for name, k in FIRST_K.items()}
        return {**values, "alpha-NDCG@10": np.array(alpha)}

    def diversified(self, method: Diversify, share: float) -> Orders:
        return [method(p, topics, share, LENGTH) for p, topics in zip(self.p, self.topics, strict=True)]

    @torch.no_grad()
    def searched(self, any_click: bool, length: int = LENGTH) -> Orders:
        """By the evaluator's beam search, for its reward or for at least one click."""
        evaluator, beams = self.cell.evaluator, self.cell.config.imitation.beams
        found: Orders = []
        for batch in batches(self.rows, 256):
            candidates = evaluator.encode(batch.inputs)
            slates = best_slates(evaluator, candidates, batch.mask, length, beams, any_click)
            found += [slate[slate != NO_ITEM].numpy() for slate in slates]
        return found


def compared(task: Task, root: Path) -> dict[str, Values]:
    """Every way of ordering the test lists of a task's cell, by name.

    Raises:
        ValueError: the lists came without an initial score.
    """
    cell = open_cell(task, root)
    if cell.features.initial_score_column is None:
        raise ValueError(f"{task.data}: its lists came without an initial score, which this starts from")
    weights = logistic(cell)
    held_out, test = (Lists(cell, rows, GENRES[task.data], weights) for rows in (cell.held_out, cell.test))
    found = {FIRST: test.measure(test.diversified(mmr, 0.0))}
    for name, method in {"MMR": mmr, "xQuAD": xquad}.items():
        chosen = {share: held_out.measure(held_out.diversified(method, share)) for share in SHARES}
        values: Values = {}
        for metric in found[FIRST]:
            best = max(SHARES, key=lambda share: np.nanmean(chosen[share][metric]))
            values[metric] = test.measure(test.diversified(method, best))[metric]
            console.print(f"seed {task.seed}: {name} has a share of {best} for {metric}")
        found[name] = values
    found["evaluator's beam search"] = test.measure(test.searched(any_click=False))
    any_click = test.measure(test.searched(any_click=True))
    any_click |= {name: test.measure(test.searched(True, k))[name] for name, k in FIRST_K.items()}
    found["evaluator's beam search, at least one click"] = any_click
    for model in FITS:
        path = root / Task(task.data, model, task.seed).directory / SLATES
        if path.exists():
            orders = json.loads(path.read_text())[""]
            found[model] = test.measure([np.array(order, np.int64) for order in orders])
    return found


def report(runs: Sequence[dict[str, Values]]) -> str:
    """Means over runs, and paired differences to the initial ranker's order."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    rows = []
    for name in names:
        cells = []
        for metric in runs[0][FIRST]:
            gap = paired_difference([run[name][metric] - run[FIRST][metric] for run in runs])
            mean = np.mean([np.nanmean(run[name][metric]) for run in runs])
            cells.append(
                f"{mean:.4f}" + (f" ({gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}])" * (name != FIRST))
            )
        rows.append([name, *cells])
    return table(["lists by", *runs[0][FIRST]], rows)


def logistic(cell: Cell) -> Floats:
    """Weights of a click's log odds on the training lists' out-of-fold score, by Newton's method. `[2]`."""
    x = np.concatenate([_scores(cell, row)[row.shown] for row in cell.train])
    y = np.concatenate([row.labels[row.shown] for row in cell.train])
    weights = np.zeros(2)
    for _ in range(12):
        p = _sigmoid(x @ weights)
        weights += np.linalg.solve((x.T * (p * (1 - p))) @ x, x.T @ (y - p))
    return weights


def _scores(cell: Cell, row: Example) -> Floats:
    """The initial score, and a constant. `[N, 2]`."""
    score = row.inputs["candidate_numeric"][:, cell.features.initial_score_column].astype(float)
    return np.column_stack([score, np.ones_like(score)])


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def _members(tokens: NDArray[np.int32]) -> Floats:
    """`[N, slots]` -> `[N, G]`, 1 where a candidate has the genre."""
    members: NDArray[np.bool_] = (tokens[:, :, None] == np.unique(tokens[tokens > 0])).any(1)
    return members.astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evidence.coverage", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", choices=tuple(GENRES), default="ranklens")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="number of folds, from the first")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/evidence"), help="where cells and finished fits are kept"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [compared(Task(arguments.data, "EGLR", seed), arguments.runs) for seed in range(arguments.seeds)]
    print(report(found))


if __name__ == "__main__":
    main()
