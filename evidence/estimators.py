"""What a policy's lists are worth, from lists that another policy chose. Pure functions of arrays.

Legend: L lists, K positions, C columns, P people, R resamples. A shorter list goes on with propensities of 1
and rewards of 0. Where nothing else is said, arrays are `[L, K] float64`:

    old, new    chance of the item that stood there, given those before it, under the policy that chose it
                and under the one that is judged
    rewards     what it brought
    predicted   what a click model expected of it, of the same list down to there

Every estimate is a sum of ratios of sums over lists (`Terms`), so that one bootstrap serves all of them.
`evidence.off_policy_truth` says which to believe when; tests compare them with Open Bandit Pipeline's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evidence.intervals import LEVEL, RESAMPLES

Floats = NDArray[np.float64]


class Terms(NamedTuple):
    """An estimate: each column's sum over the lists by that of its denominators, added up. `[L, C]` each."""

    numerators: Floats
    denominators: Floats

    @property
    def value(self) -> float:
        """NaN where no list supports a column."""
        return float(_value(self.numerators.sum(0), self.denominators.sum(0)))


class Overlap(NamedTuple):
    """How far the lists of one policy tell about another.

    Attributes:
        effective: (sum w)^2 / sum w^2 (Kish 1965), of the position where it is least.
        largest: the largest weight.
        mean: of the whole lists' weights. Its expectation is 1 if the logging policy may show everything that
            the other would; below, it is the share of the other's lists that it ever shows.
        unsupported: share of lists that the other policy would never have shown.
    """

    effective: float
    largest: float
    mean: float
    unsupported: float


def step_weights(old: Floats, new: Floats) -> Floats:
    """new / old of each position by itself: right where an item's worth does not depend on those above it.

    After IIPS (Li et al. 2018, "Offline Evaluation of Ranking Policies with Click Models"). Departs from it
    because marginal probabilities of an item at a position cannot be computed for a policy that writes item
    by item: chances are conditional on the items above, as they stood.
    """
    return new / old


def cascade_weights(old: Floats, new: Floats) -> Floats:
    """prod_{j <= k} new_j / old_j: right where an item's worth depends on those above it only (McInerney et
    al. 2020, "Counterfactual Evaluation of Slate Recommendations with Sequential Reward Interactions")."""
    weights: Floats = np.cumprod(new / old, axis=1, dtype=np.float64)
    return weights


def slate_weights(old: Floats, new: Floats) -> Floats:
    """prod_j new_j / old_j at every position: right whatever an item's worth depends on."""
    return np.broadcast_to(cascade_weights(old, new)[:, -1:], old.shape)


def on_policy(rewards: Floats) -> Terms:
    """The logging policy's own value: the mean of what its lists brought."""
    return _means(rewards.sum(1, keepdims=True))


def direct_method(expected: Floats) -> Terms:
    """Mean over lists of what a click model expects of the judged policy's own. `expected`: `[L]`."""
    return _means(expected[:, None])


def self_normalised(weights: Floats, rewards: Floats) -> Terms:
    """sum_k sum_i w_ik r_ik / sum_i w_ik (Swaminathan and Joachims 2015, "The Self-Normalized Estimator for
    Counterfactual Learning"): with step weights IIPS, with cascade weights RIPS, with slate weights SNIPS."""
    return Terms(weights * rewards, weights)


def cascade_doubly_robust(weights: Floats, rewards: Floats, predicted: Floats, expected: Floats) -> Terms:
    """mean_i [expected_i + sum_k w_ik (r_ik - predicted_ik)], of cascade weights (Kiyohara et al. 2022,
    "Doubly Robust Off-Policy Evaluation for Ranking Policies under the Cascade Behavior Model", eq. 7).

    There the baseline of a position is Q_k, what is still to come from it on. A click model that reads from
    the top gives Q_k = predicted_k + V_{k+1}; every V but the first, which is `expected`, then cancels.
    Unbiased whatever the click model says, if the chances are right and what it says of a list was learned
    from others.

    Args:
        expected: `[L]`, as in `direct_method`.
    """
    corrections = _means(weights * (rewards - predicted))
    return _beside(direct_method(expected), corrections)


def self_normalised_doubly_robust(
    weights: Floats, rewards: Floats, predicted: Floats, expected: Floats
) -> Terms:
    """The same with self-normalised corrections: a little bias for much less variance."""
    return _beside(direct_method(expected), self_normalised(weights, rewards - predicted))


def shrunk(weights: Floats) -> Floats:
    """w L / (w^2 + L): what the weights of a doubly robust estimate are shrunk to, so that no list counts for
    more than sqrt(L) / 2, and one that is worth little goes over into the direct method (Su et al. 2020,
    "Doubly Robust Off-Policy Evaluation with Shrinkage", optimistic; their lambda grows with the log here, so
    that the bias goes away)."""
    lists = len(weights)
    return weights * lists / (weights**2 + lists)


def overlap(weights: Floats) -> Overlap:
    totals, squares = weights.sum(0), (weights**2).sum(0)
    effective = np.divide(totals**2, squares, out=np.zeros_like(totals), where=squares > 0)
    last = weights[:, -1]
    return Overlap(
        float(effective.min()), float(weights.max()), float(last.mean()), float((last == 0.0).mean())
    )


def resampled(estimates: Sequence[Terms], people: NDArray[Any]) -> list[Floats]:
    """The estimates of logs whose people are drawn with replacement: the same draws for all of them, and
    whenever the people are the same, so that differences are paired.

    Args:
        people: whose each list is, `[L]`.

    Returns:
        `[R]` for each estimate.
    """
    _, whose = np.unique(people, return_inverse=True)
    count = int(whose.max()) + 1
    columns = np.hstack([array for terms in estimates for array in terms])
    sums = np.zeros((count, columns.shape[1]))
    np.add.at(sums, whose, columns)
    rng, drawn = np.random.default_rng(0), np.empty((RESAMPLES, columns.shape[1]))
    for row in drawn:
        times = np.bincount(rng.integers(count, size=count), minlength=count)
        row[:] = times @ sums
    widths = [array.shape[1] for terms in estimates for array in terms]
    parts = np.split(drawn, np.cumsum(widths)[:-1], axis=1)
    return [_value(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]


def interval(draws: Floats) -> tuple[float, float]:
    """The percentile interval of `resampled`, NaN where a resample supports nothing."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mixed(sampled: Floats, greedy: NDArray[np.bool_], share: Floats) -> Floats:
    """Chances of a policy that with probability `share` samples its list, and else writes the greedy one,
    given the items above: share of both ways that led there, and that go on so.

    Args:
        sampled: chance of each item if the list is sampled.
        greedy: whether the greedy list has the same item there.
        share: `[L]`.
    """
    share = share[:, None]
    so_far = share * np.cumprod(sampled, axis=1) + (1 - share) * np.cumprod(greedy, axis=1)
    before = np.hstack([np.ones_like(share), so_far[:, :-1]])
    return np.divide(so_far, before, out=np.zeros_like(so_far), where=before > 0)


def _means(values: Floats) -> Terms:
    return Terms(values, np.ones_like(values))


def _beside(first: Terms, second: Terms) -> Terms:
    return Terms(*(np.hstack(pair) for pair in zip(first, second, strict=True)))


def _value(numerators: Floats, denominators: Floats) -> Floats:
    """Of sums over lists, `[..., C]` -> `[...]`."""
    ratios = np.divide(
        numerators, denominators, out=np.full_like(numerators, np.nan), where=denominators != 0
    )
    value: Floats = ratios.sum(-1)
    return value
