"""Prices and pace: what is predicted, and what it learns from."""

import random

import numpy as np
import pytest

from constraints.layout import KINDS
from constraints.planning import plan
from constraints.rules import Cap, Constraints
from service.serving.cost import JUDGED_S, RECENT, CostModel, Pace, Timing

COSTS = CostModel([Timing(10, 1.0, 0.1, 0.2), Timing(110, 11.0, 0.2, 0.4)], marginal=0.25)


def test_lists_between_two_that_were_timed_are_between_them_in_price() -> None:
    assert COSTS.price(60, 1, 3) == pytest.approx((6.15, 6.15 + 0.9, 0.3, 0.0, 0.0, 0.0))
    assert COSTS.price(5, 2, 0).least_s == pytest.approx(1.0 + 2 * 0.1), "the shortest that was timed"
    assert COSTS.price(220, 1, 1).least_s == pytest.approx(2 * (11.0 + 0.2)), "in proportion"


def test_a_position_is_over_the_candidates_that_are_left() -> None:
    assert COSTS.price(110, 100, 0).least_s == pytest.approx(11.0 + 100 * 0.15)


def test_a_shorter_list_is_not_dearer_because_its_timing_was_disturbed() -> None:
    disturbed = CostModel([Timing(10, 50.0, 9.0, 9.0), Timing(110, 11.0, 0.2, 0.4)], marginal=1.0)
    assert disturbed.price(10, 1, 1).most_s == pytest.approx(11.0 + 0.2 + 0.4)


def test_lookahead_is_priced_by_the_lists_it_judges() -> None:
    """Each of them completed from halfway on average, and reasoned about there again."""
    costs = CostModel([Timing(10, 1.0, 0.1, 0.2, 3.0, 0.5), Timing(20, 1.0, 0.1, 0.2, 3.0, 0.5)], 1.0)
    price = costs.price(15, 4, 2, lookahead=3)
    assert price.spent_s(0, 0) == 0.0, "nothing is encoded for the evaluator either"
    assert price.spent_s(5, 0) == pytest.approx(5 * 0.2)
    assert price.spent_s(5, 6) == pytest.approx(3.0 + 6 * 4 * 0.5 + 5 * 0.2 * (1 + 6 / 2))
    assert price.least_s == pytest.approx(1.0 + 4 * 0.1)
    assert price.most_s == pytest.approx(price.least_s + price.spent_s(4 * 2, 4 * 3))


def test_a_batch_shares_what_does_not_grow_with_it() -> None:
    assert COSTS.batch_s([4.0]) == 4.0
    assert COSTS.batch_s([4.0, 2.0, 2.0]) == pytest.approx(4.0 + 0.25 * 4.0)
    assert COSTS.batch_s([]) == 0.0


def test_no_outlier_moves_the_pace_and_a_change_does() -> None:
    pace, drawn = Pace(), random.Random(0)
    for number in range(200):
        stalled = number % 7 == 3
        pace.took(0.001, 60.0 if stalled else 0.001 * drawn.uniform(1.9, 2.1), 0.5)
        assert 1.9 <= pace.factor <= 2.1 or number < 6
    for _ in range(RECENT // 2 + 1):
        pace.took(0.001, 0.004, 0.5)
    assert pace.factor == pytest.approx(4.0)


def test_reasoning_is_expected_as_recent_lists_did() -> None:
    pace = Pace()
    assert pace.extra == 0.0
    for _ in range(100):
        pace.took(1.0, 1.0, 0.25)
    assert pace.extra == pytest.approx(0.25, abs=1e-3)


def test_rules_that_are_hard_to_satisfy_are_priced_as_if_all_had_to_be_searched() -> None:
    """What shares a brand stands apart: there are many, or so few that the last ones do not fit."""
    price = COSTS.price(60, 20, 0)
    brand = np.arange(60) % 30
    apart = tuple(Cap(f"brand {b}", brand == b, 1, 3) for b in range(30))
    assert price.under(None) == price.under(plan(Constraints(caps=apart), 60, 20)) == price
    common = np.arange(60) < 45
    hard = plan(Constraints(caps=(*apart, Cap("common", common, 1, 3))), 60, 60)
    assert hard.length < 60
    under = price.under(hard)
    assert under.searched_s > 0.0
    assert under == price._replace(
        least_s=price.least_s + under.searched_s,
        most_s=price.most_s + under.searched_s,
        searched_s=under.searched_s,
    )
    written_s = hard.length * int(hard.packed[KINDS]) * JUDGED_S
    twice = plan(hard.constraints, 60, 60, effort=4096)
    assert price.under(twice).searched_s - written_s == pytest.approx(2 * (under.searched_s - written_s))


def test_many_kinds_of_candidates_have_their_price() -> None:
    """Groups of the same size over items that are each in others of them: every item is a kind, and every one
    is judged at every position."""
    draw = np.random.default_rng(0)

    def searched_s(candidates: int) -> float:
        overlapping = tuple(Cap(f"group {g}", draw.random(candidates) < 0.1, 3, 5) for g in range(20))
        return COSTS.price(60, 50, 0).under(plan(Constraints(caps=overlapping), candidates, 50)).searched_s

    few, many = searched_s(60), searched_s(2000)
    assert many > 0.005
    assert many > 10 * few
