"""The same numbers as Open Bandit Pipeline's on a log that it generates (Saito et al. 2021).

Skipped without `obp`, which wants an older Python than this project and libraries of its time;
docs/off-policy.md says how this was run.
"""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evidence.estimators import (
    cascade_doubly_robust,
    cascade_weights,
    self_normalised,
    slate_weights,
    step_weights,
)

LISTS, ITEMS, LENGTH = 1000, 5, 3

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def log() -> dict[str, Any]:
    dataset = pytest.importorskip("obp.dataset")
    made = dataset.SyntheticSlateBanditDataset(
        n_unique_action=ITEMS,
        len_list=LENGTH,
        dim_context=2,
        reward_type="binary",
        reward_structure="cascade_additive",
        click_model="cascade",
        random_state=12345,
        behavior_policy_function=dataset.linear_behavior_policy_logit,
        base_reward_function=dataset.logistic_reward_function,
    )
    log: dict[str, Any] = made.obtain_batch_bandit_feedback(LISTS)
    scores = np.random.default_rng(0).normal(size=(LISTS, ITEMS))
    log["scores"] = scores
    log["new"], log["new_at_position"], log["new_cascade"] = made.obtain_pscore_given_evaluation_policy_logit(
        log["action"], scores
    )
    log["new_actions"] = made.calc_evaluation_policy_action_dist(log["action"], scores)
    return log


def by_list(values: Floats) -> Floats:
    return values.reshape(LISTS, LENGTH)


def steps(cascade: Floats) -> Floats:
    """Chances of items given those above, from those of beginnings."""
    rows = by_list(cascade)
    return rows / np.hstack([np.ones((LISTS, 1)), rows[:, :-1]])


def test_weighted_estimates_are_the_same(log: dict[str, Any]) -> None:
    ope = pytest.importorskip("obp.ope")
    old, new, rewards = steps(log["pscore_cascade"]), steps(log["new_cascade"]), by_list(log["reward"])
    of_lists = {name: log[name] for name in ("slate_id", "reward", "position")}
    slate = ope.SelfNormalizedSlateStandardIPS(len_list=LENGTH).estimate_policy_value(
        **of_lists, pscore=log["pscore"], evaluation_policy_pscore=log["new"]
    )
    cascade = ope.SelfNormalizedSlateRewardInteractionIPS(len_list=LENGTH).estimate_policy_value(
        **of_lists, pscore_cascade=log["pscore_cascade"], evaluation_policy_pscore_cascade=log["new_cascade"]
    )
    step = ope.SelfNormalizedSlateIndependentIPS(len_list=LENGTH).estimate_policy_value(
        **of_lists,
        pscore_item_position=old.ravel(),  # given those above, as here
        evaluation_policy_pscore_item_position=new.ravel(),
    )
    found = (
        self_normalised(weigh(old, new), rewards).value
        for weigh in (slate_weights, cascade_weights, step_weights)
    )
    assert tuple(found) == pytest.approx((slate, cascade, step), rel=1e-9)
    assert len({round(value, 3) for value in (slate, cascade, step)}) == 3


def test_cascade_doubly_robust_is_the_same(log: dict[str, Any]) -> None:
    """Theirs is told what is still to come after every item that could have stood anywhere; what we need of
    that follows from a click model."""
    ope = pytest.importorskip("obp.ope")
    worth = np.random.default_rng(1).random(
        (LISTS, LENGTH, ITEMS + 1, ITEMS)
    )  # [.., .., the one above, item]
    odds = np.exp(log["scores"])
    shown = log["action"].reshape(LISTS, LENGTH)

    def to_come(row: int, above: tuple[int, ...]) -> Floats:
        """Q of every item that may stand next. `[ITEMS]`."""
        out = np.zeros(ITEMS)
        for item in set(range(ITEMS)) - set(above):
            out[item] = worth[row, len(above), above[-1] if above else ITEMS, item]
            if len(above) + 1 < LENGTH:
                out[item] += chances(row, (*above, item)) @ to_come(row, (*above, item))
        return out

    def chances(row: int, above: tuple[int, ...]) -> Floats:
        left = np.where(np.isin(np.arange(ITEMS), above), 0.0, odds[row])
        return left / left.sum()

    baseline = np.array(
        [[to_come(row, tuple(shown[row, :k])) for k in range(LENGTH)] for row in range(LISTS)]
    )
    theirs = ope.SlateCascadeDoublyRobust(len_list=LENGTH, n_unique_action=ITEMS).estimate_policy_value(
        **{name: log[name] for name in ("slate_id", "action", "reward", "position", "pscore_cascade")},
        evaluation_policy_pscore_cascade=log["new_cascade"],
        q_hat=baseline.ravel(),
        evaluation_policy_action_dist=log["new_actions"],
    )

    def of_click_model(row: int, slate: tuple[int, ...]) -> Floats:
        return np.array([worth[row, k, slate[k - 1] if k else ITEMS, slate[k]] for k in range(LENGTH)])

    def chance(row: int, slate: tuple[int, ...]) -> float:
        return float(np.prod([chances(row, slate[:k])[slate[k]] for k in range(LENGTH)]))

    every = list(permutations(range(ITEMS), LENGTH))
    expected = np.array(
        [sum(chance(row, s) * of_click_model(row, s).sum() for s in every) for row in range(LISTS)]
    )
    predicted = np.array([of_click_model(row, tuple(shown[row])) for row in range(LISTS)])
    weights = cascade_weights(steps(log["pscore_cascade"]), steps(log["new_cascade"]))
    ours = cascade_doubly_robust(weights, by_list(log["reward"]), predicted, expected)
    assert ours.value == pytest.approx(theirs, rel=1e-9)
