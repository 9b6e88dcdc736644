"""Ranking metrics of slates against logged labels, and how sure a difference of two rankers is.

NDCG of logged labels rewards recovering labels, not the counterfactual value of the list.
Legend: B lists, N candidates, K positions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


def gains(slates: list[NDArray[np.int64]], labels: list[NDArray[np.float32]], k: int) -> NDArray[np.float64]:
    """Label of each of the first `k` positions. `[B, k]`, 0 past the end of a slate."""
    out = np.zeros((len(slates), k))
    for row, (slate, label) in enumerate(zip(slates, labels, strict=True)):
        head = slate[:k]
        out[row, : len(head)] = label[head]
    return out


def ndcg(slates: list[NDArray[np.int64]], labels: list[NDArray[np.float32]], k: int) -> NDArray[np.float64]:
    """NDCG@k of each list (Jarvelin and Kekalainen 2002, binary gain, log2 discount). `[B]`.

    Args:
        slates: candidate indices in the order of the slate.
        labels: `[N] float32` of each list, 1 = relevant.

    Returns:
        NaN for a list with nothing relevant, which has no best order.
    """
    discount = 1.0 / np.log2(np.arange(k) + 2.0)
    relevant = np.array([int(label.sum()) for label in labels])
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant, k)]
    return (gains(slates, labels, k) @ discount) / np.where(ideal > 0, ideal, np.nan)


def average_precision(
    slates: list[NDArray[np.int64]], labels: list[NDArray[np.float32]], k: int
) -> NDArray[np.float64]:
    """AP@k of each list, over min(relevant, k). `[B]`."""
    hits = gains(slates, labels, k)
    precision = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    relevant = np.array([max(min(int(label.sum()), k), 1) for label in labels])
    return (precision * hits).sum(axis=1) / relevant


def summary(slates: list[NDArray[np.int64]], labels: list[NDArray[np.float32]]) -> dict[str, float]:
    """Mean NDCG@{1,3,5,10} and MAP@10 over lists with something relevant, and clicks@10 over all."""
    usable = np.array([label.any() for label in labels])
    out = {f"ndcg@{k}": float(np.nanmean(ndcg(slates, labels, k))) for k in (1, 3, 5, 10)}
    out["map@10"] = float(average_precision(slates, labels, 10)[usable].mean())
    out["clicks@10"] = float(gains(slates, labels, 10).sum(axis=1).mean())
    return out


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def paired_difference(gaps: Sequence[NDArray[np.floating]]) -> Interval:
    """Mean difference of two rankers on the same lists, with its percentile bootstrap (Efron 1979).

    Lists are resampled within their run, so that every run keeps its weight. The same gaps always give the
    same interval.

    Args:
        gaps: for each run, the one's metric minus the other's on each list, `[B]`; NaN where a list has none.
    """
    rng = np.random.default_rng(0)
    known = [gap[~np.isnan(gap)] for gap in gaps]
    resampled = [
        [gap[rng.integers(len(gap), size=len(gap))].mean() for _ in range(RESAMPLES)] for gap in known
    ]
    low, high = np.quantile(np.mean(resampled, axis=0), [0.025, 0.975])
    return Interval(float(np.mean([gap.mean() for gap in known])), float(low), float(high))


def diversity(vectors: NDArray[np.float32], slate: NDArray[np.int64]) -> float:
    """Intra-list diversity: mean over pairs of 1 - cosine of the items' vectors, `[N, X]`."""
    chosen = vectors[slate]
    unit = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-9)
    count = len(slate)
    if count < 2:
        return 0.0
    total = (unit @ unit.T).sum() - (unit * unit).sum()
    return float(1.0 - total / (count * (count - 1)))
