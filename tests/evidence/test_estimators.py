"""Estimators on logs small enough to count by hand, and on every list a tiny policy could have shown."""

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from evidence.estimators import (
    Terms,
    cascade_doubly_robust,
    cascade_weights,
    direct_method,
    interval,
    mixed,
    on_policy,
    overlap,
    resampled,
    self_normalised,
    self_normalised_doubly_robust,
    shrunk,
    slate_weights,
    step_weights,
)

Floats = NDArray[np.float64]

OLD = np.array([[0.5, 0.5], [0.25, 1.0], [0.25, 0.5]])
NEW = np.array([[0.25, 1.0], [0.5, 0.5], [0.0, 0.5]])
REWARDS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def test_weights_of_three_lists() -> None:
    assert step_weights(OLD, NEW).tolist() == [[0.5, 2.0], [2.0, 0.5], [0.0, 1.0]]
    assert cascade_weights(OLD, NEW).tolist() == [[0.5, 1.0], [2.0, 1.0], [0.0, 0.0]]
    assert slate_weights(OLD, NEW).tolist() == [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]


def test_values_of_three_lists() -> None:
    predicted, expected = np.full((3, 2), 0.5), np.array([1.0, 1.2, 0.8])
    step, cascade, slate = (weigh(OLD, NEW) for weigh in (step_weights, cascade_weights, slate_weights))
    assert on_policy(REWARDS).value == pytest.approx(4 / 3)
    assert direct_method(expected).value == pytest.approx(1.0)
    assert self_normalised(step, REWARDS).value == pytest.approx(0.5 / 2.5 + 1.5 / 3.5)
    assert self_normalised(cascade, REWARDS).value == pytest.approx(0.5 / 2.5 + 1.0 / 2.0)
    assert self_normalised(slate, REWARDS).value == pytest.approx(1.0 / 2.0 + 1.0 / 2.0)
    corrections = np.array([0.5 * 0.5 + 2.0 * -0.5, 1.0 * -0.5 + 1.0 * 0.5])
    robust = cascade_doubly_robust(cascade, REWARDS, predicted, expected)
    assert robust.value == pytest.approx(1.0 + corrections.sum() / 3)
    robust = self_normalised_doubly_robust(cascade, REWARDS, predicted, expected)
    assert robust.value == pytest.approx(1.0 + (corrections / [2.5, 2.0]).sum())


def test_overlap_of_three_lists() -> None:
    found = overlap(cascade_weights(OLD, NEW))
    assert found.effective == pytest.approx(2.5**2 / (0.25 + 4.0))
    assert (found.largest, found.unsupported) == (2.0, pytest.approx(1 / 3))
    assert found.mean == pytest.approx(2 / 3)
    assert overlap(np.zeros((3, 2))).effective == 0.0


def test_shrunk_weights_of_three_lists() -> None:
    found = shrunk(np.array([[0.0, 3.0], [1.0, 1e6], [3.0, 3**0.5]]))
    assert found.tolist() == [
        [0.0, pytest.approx(9 / 12)],
        [pytest.approx(3 / 4), pytest.approx(0.0, abs=1e-5)],
        [pytest.approx(9 / 12), pytest.approx(3**0.5 / 2)],
    ]


def test_no_support_is_no_number() -> None:
    assert np.isnan(self_normalised(np.zeros((3, 2)), REWARDS).value)
    assert np.isnan(interval(resampled([self_normalised(np.zeros((3, 2)), REWARDS)], np.arange(3))[0])).all()


class Tiny:
    """Every ordered pair of three items, each with the chance that a policy writes it; an item's reward
    depends on those above it."""

    LISTS = np.array(list(permutations(range(3), 2)))
    WORTH = np.array(
        [[0.9, 0.3, 0.2], [0.1, 0.8, 0.4], [0.5, 0.7, 0.6]]
    )  # [above, item], own row: at the top

    def __init__(self, scores: Floats) -> None:
        self.scores = scores

    def chances(self) -> Floats:
        odds = np.exp(self.scores)
        first = odds / odds.sum()
        rows = [[first[a], odds[b] / (odds.sum() - odds[a])] for a, b in self.LISTS]
        return np.array(rows)

    def rewards(self) -> Floats:
        return np.array([[self.WORTH[a, a], self.WORTH[a, b]] for a, b in self.LISTS])

    @property
    def value(self) -> float:
        return float(self.chances().prod(1) @ self.rewards().sum(1))


def expectation(terms: Terms, chances: Floats) -> float:
    """Of an estimate over all logs: every list as often as it is shown."""
    often = chances.prod(1)[:, None]
    return Terms(terms.numerators * often, terms.denominators * often).value


def test_expectations_over_every_list_are_the_true_value() -> None:
    old, new = Tiny(np.array([0.0, 0.5, 1.0])), Tiny(np.array([1.5, 0.0, -0.5]))
    was, now, rewards = old.chances(), new.chances(), old.rewards()
    cascade, slate = cascade_weights(was, now), slate_weights(was, now)
    assert new.value != pytest.approx(old.value, abs=0.05)
    assert expectation(on_policy(rewards), was) == pytest.approx(old.value)
    assert expectation(self_normalised(cascade, rewards), was) == pytest.approx(new.value)
    assert expectation(self_normalised(slate, rewards), was) == pytest.approx(new.value)
    assert expectation(self_normalised(step_weights(was, now), rewards), was) != pytest.approx(new.value)
    wrong = np.random.default_rng(0).random((6, 2))
    wrong[:, 0] = wrong[Tiny.LISTS[:, 0], 0]  # a position's prediction knows what stands above it, not below
    expected = np.full(6, now.prod(1) @ wrong.sum(1))
    for robust in (cascade_doubly_robust, self_normalised_doubly_robust):
        assert expectation(robust(cascade, rewards, wrong, expected), was) == pytest.approx(new.value)
        assert expected[0] != pytest.approx(new.value, abs=0.05)


def test_a_right_click_model_leaves_nothing_to_correct() -> None:
    old, new = Tiny(np.zeros(3)), Tiny(np.array([2.0, 0.0, 0.0]))
    weights = cascade_weights(old.chances(), new.chances())
    terms = cascade_doubly_robust(weights, old.rewards(), old.rewards(), np.full(6, new.value))
    assert (terms.numerators[:, 1:] == 0).all()
    assert terms.value == pytest.approx(new.value)


def test_intervals_resample_people() -> None:
    """Ten lists of one person are no more than one."""
    rng = np.random.default_rng(1)
    tastes = rng.normal(size=200)
    rewards = np.repeat(tastes, 10)[:, None] + rng.normal(0.0, 0.1, size=(2000, 1))
    low, high = interval(*resampled([on_policy(rewards)], np.repeat(np.arange(200), 10)))
    alone = interval(*resampled([on_policy(rewards)], np.arange(2000)))
    assert (high - low) / 2 == pytest.approx(1.96 * tastes.std() / 200**0.5, rel=0.1)
    assert high - low > 2.5 * (alone[1] - alone[0])


def test_differences_are_paired() -> None:
    rewards = np.random.default_rng(1).normal(size=(500, 3))
    better = rewards + 0.1
    above, below = resampled([on_policy(better), on_policy(rewards)], np.arange(500))
    difference = above - below
    assert difference == pytest.approx(np.full(len(difference), 0.3))


def test_a_mixture_is_both_of_its_ways_to_a_list() -> None:
    """After an item that only sampling could have led to, the list is a sampled one."""
    sampled = np.array([[0.5, 0.25], [0.5, 0.25], [0.2, 0.4]])
    greedy = np.array([[True, True], [True, False], [False, True]])
    found = mixed(sampled, greedy, np.array([0.2, 0.2, 0.2]))
    assert found.prod(1) == pytest.approx([0.2 * 0.125 + 0.8, 0.2 * 0.125, 0.2 * 0.08])
    assert found[:, 0] == pytest.approx([0.2 * 0.5 + 0.8, 0.2 * 0.5 + 0.8, 0.2 * 0.2])
    assert found[2, 1] == pytest.approx(0.4)
    assert mixed(sampled, greedy, np.zeros(3)).tolist() == [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    assert mixed(sampled, greedy, np.ones(3)) == pytest.approx(sampled)
