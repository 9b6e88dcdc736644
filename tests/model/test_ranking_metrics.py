"""Ranking metrics and paired differences, recomputed by hand."""

import math

import numpy as np
import pytest

from model.metrics import average_precision, ndcg, paired_difference, summary


def test_ranking_metrics_by_hand() -> None:
    slates, labels = [np.array([2, 0, 1, 3])], [np.array([1, 0, 1, 0], np.float32)]
    assert ndcg(slates, labels, 1) == pytest.approx([1.0])
    assert ndcg([np.array([1, 0, 2])], labels, 3) == pytest.approx(
        [(1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3))]
    )
    assert average_precision([np.array([1, 0, 2])], labels, 10) == pytest.approx([(1 / 2 + 2 / 3) / 2])
    assert summary(slates, labels)["clicks@10"] == 2.0


def test_a_slate_shorter_than_k_gains_nothing_past_its_end() -> None:
    labels = [np.array([1, 1, 1], np.float32)]
    assert ndcg([np.array([0])], labels, 3)[0] == pytest.approx(1 / (1 + 1 / math.log2(3) + 1 / 2))


def test_a_difference_is_resampled_within_its_run() -> None:
    """The bootstrap, with all of its draws at once instead of one by one."""
    rng = np.random.default_rng(7)
    gaps = [rng.normal(0.1, 1.0, size=size) for size in (400, 90)]
    gaps[0][3] = np.nan
    lists = [gap[~np.isnan(gap)] for gap in gaps]
    draws = np.random.default_rng(0)
    means = [gap[draws.integers(len(gap), size=(2000, len(gap)))].mean(axis=1) for gap in lists]
    found = paired_difference(gaps)
    assert found.mean == pytest.approx((lists[0].mean() + lists[1].mean()) / 2)  # of runs, not of lists
    assert found.low == pytest.approx(np.percentile((means[0] + means[1]) / 2, 2.5))
    assert found.high == pytest.approx(np.percentile((means[0] + means[1]) / 2, 97.5))
    assert paired_difference(gaps) == found


def test_an_interval_is_as_wide_as_the_normal_one() -> None:
    gap = np.random.default_rng(0).normal(0.1, 1.0, size=400)
    found = paired_difference([gap])
    error = gap.std() / 20
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.2 * error)


def test_an_interval_of_pairs_does_not_see_how_hard_the_lists_are() -> None:
    hard = 5 * np.random.default_rng(0).normal(size=400)
    assert paired_difference([hard + 0.1 - hard]) == pytest.approx((0.1, 0.1, 0.1))
    _, low, high = paired_difference([hard + 0.1 - np.roll(hard, 1)])
    assert low < 0 < high
