"""Goals that are not additive: metrics and greedy diversification by hand."""

import itertools
import math

import numpy as np
import pytest

from evidence.coverage import FIRST, alpha_ndcg, mmr, report, xquad

GENRES = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
"""Two candidates of one genre, one of another."""


def test_alpha_ndcg_by_hand() -> None:
    best = 1 + 1 / math.log2(3) + 0.5 / 2
    repeated = 1 + 0.5 / math.log2(3) + 1 / 2
    assert alpha_ndcg(np.array([0, 2, 1]), GENRES) == pytest.approx(1.0)
    assert alpha_ndcg(np.array([0, 1, 2]), GENRES) == pytest.approx(repeated / best)
    cut = (1 + 0.5 / math.log2(3)) / (1 + 1 / math.log2(3))
    assert alpha_ndcg(np.array([0, 1]), GENRES, k=2) == pytest.approx(cut)
    assert math.isnan(alpha_ndcg(np.array([0]), np.zeros((3, 2))))


def test_no_order_is_better_than_the_ideal() -> None:
    rng = np.random.default_rng(0)
    topics = (rng.random((6, 3)) < 0.4).astype(float)
    found = [alpha_ndcg(np.array(order), topics) for order in itertools.permutations(range(6))]
    assert max(found) == pytest.approx(1.0, abs=0.02)  # it is found greedily
    assert min(found) < 0.9


@pytest.mark.parametrize("method", [mmr, xquad])
def test_diversification_goes_from_probability_to_genres(method) -> None:
    p = np.array([0.9, 0.8, 0.7])
    assert method(p, GENRES, 0.0, 3).tolist() == [0, 1, 2]
    assert method(p, GENRES, 0.9, 3).tolist() == [0, 2, 1]
    assert method(p, GENRES, 0.9, 2).tolist() == [0, 2]


def test_a_report_compares_with_the_initial_ranker() -> None:
    low, high = np.array([0.0, 1.0, np.nan]), np.array([0.5, 1.0, np.nan])
    lines = report([{FIRST: {"m": low}, "other": {"m": high}}]).splitlines()
    assert lines[2] == f"| {FIRST} | 0.5000 |"
    assert lines[3].startswith("| other | 0.7500 (+0.2500 [")
