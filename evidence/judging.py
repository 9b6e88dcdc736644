"""A policy judged by the lists of another: every estimate, how sure it is, and what it stands on.

Legend: L lists, K positions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evidence.click_models import CrossFitted
from evidence.estimators import (
    Overlap,
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
from evidence.judged_policy import JudgedPolicy
from evidence.logged_lists import Floats, LoggedLists, Slates, padded

DRAWS = 4
"""Lists sampled of the judged policy for each list of the log, for the direct method."""

DM, IIPS, RIPS, SNIPS, CDR, SN_CDR = "DM", "IIPS", "RIPS", "SNIPS", "CDR", "SN-CDR"
SHRUNK = "CDR-OS"
NAMES = {
    DM: "direct method",
    IIPS: "importance sampling by position",
    RIPS: "cascade (reward interaction)",
    SNIPS: "importance sampling of whole lists",
    CDR: "cascade doubly robust",
    SN_CDR: "cascade doubly robust, self-normalised",
    SHRUNK: "cascade doubly robust, weights shrunk",
}

ENOUGH = 500
"""Effective lists below which an interval is not to be relied on."""


class Value(NamedTuple):
    """Expected positives a list, with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


class Estimate(NamedTuple):
    """What one estimator says: the policy's value, that minus the value of the lists of the log, what it
    stands on (None where nothing is weighted), and its values of resampled logs, `[R]`."""

    value: Value
    difference: Value
    overlap: Overlap | None
    draws: Floats

    def minus(self, other: "Estimate") -> Value:
        """Of another policy by the same lists: the difference of the two values, paired."""
        return Value(self.value.value - other.value.value, *interval(self.draws - other.draws))


class Judgement(NamedTuple):
    """Attributes:
    logged: what the lists of the log brought.
    predicted: what the click models expected of them: far from `logged`, they are not to be believed.
    """

    lists: int
    logged: Value
    predicted: float
    estimates: dict[str, Estimate]

    def warnings(self) -> list[str]:
        """What speaks against relying on the weighted estimates."""
        of_lists = self.estimates[SNIPS].overlap
        assert of_lists is not None
        found = []
        if of_lists.effective < ENOUGH:
            found.append(
                f"the weights of {self.lists} lists are worth {of_lists.effective:.0f}, fewer than {ENOUGH}: "
                "intervals of RIPS, SNIPS and CDR are too narrow"
            )
        if of_lists.unsupported > 0.5:
            found.append(f"{of_lists.unsupported:.0%} of the lists could not come from this policy")
        if not 0.8 < of_lists.mean < 1.25:
            found.append(
                f"weights are {of_lists.mean:.2f} on average, not 1: the log does not show, or hardly shows, "
                "what this policy would"
            )
        if of_lists.largest > 0.05 * of_lists.mean * self.lists:
            found.append(f"one list has {of_lists.largest / of_lists.mean / self.lists:.0%} of the weight")
        if not self.logged.low <= self.predicted <= self.logged.high:
            found.append(
                f"the click models expected {self.predicted:.4f} of the lists of the log, which brought "
                f"{self.logged}: DM is off by as much"
            )
        return found


def judge(
    lists: LoggedLists,
    policy: JudgedPolicy,
    click_models: CrossFitted,
    share: Floats,
    temperature: Floats,
    draws: int = DRAWS,
) -> Judgement:
    """Judge a policy that samples a `share` of its lists at a `temperature`, `[L]` each, and else writes the
    greedy one."""
    lengths = [len(slate) for slate in lists.slates]
    greedy = policy.greedy(lists.inputs, lengths) if (share < 1).any() else lists.slates
    sampled: list[Slates] = []
    new = np.ones_like(lists.propensity)
    if (share > 0).any():
        sampled = [policy.sampled(lists.inputs, lengths, temperature, seed) for seed in range(draws)]
        new = padded(policy.chances(lists.inputs, lists.slates, temperature), 1.0)
    same = padded([a == b for a, b in zip(greedy, lists.slates, strict=True)], 1.0).astype(bool)
    return judged(lists, click_models, mixed(new, same, share), sampled, greedy, share)


def judged(
    lists: LoggedLists,
    click_models: CrossFitted,
    new: Floats,
    sampled: Sequence[Slates],
    greedy: Slates,
    share: Floats,
) -> Judgement:
    """The same of a policy that has written its lists: `new` are its chances of the logged ones, `[L, K]`."""
    old, rewards = lists.propensity, lists.rewards
    predicted = click_models.clicks(lists.examples, lists.slates)
    expected = np.zeros(len(lists))
    if (share < 1).any():
        expected += (1 - share) * click_models.clicks(lists.examples, greedy).sum(1)
    for slates in sampled:
        expected += share / len(sampled) * click_models.clicks(lists.examples, slates).sum(1)
    cascade, step, slate = (weigh(old, new) for weigh in (cascade_weights, step_weights, slate_weights))
    logged = on_policy(rewards)
    terms: dict[str, tuple[Terms, Floats | None]] = {
        DM: (direct_method(expected), None),
        IIPS: (self_normalised(step, rewards), step),
        RIPS: (self_normalised(cascade, rewards), cascade),
        SNIPS: (self_normalised(slate, rewards), slate),
        CDR: (cascade_doubly_robust(cascade, rewards, predicted, expected), cascade),
        SN_CDR: (self_normalised_doubly_robust(cascade, rewards, predicted, expected), cascade),
        SHRUNK: (cascade_doubly_robust(shrunk(cascade), rewards, predicted, expected), cascade),
    }
    of_log, *drawn = resampled([logged, *(own for own, _ in terms.values())], lists.people)
    estimates = {
        name: Estimate(
            Value(own.value, *interval(draws)),
            Value(own.value - logged.value, *interval(draws - of_log)),
            None if weights is None else overlap(weights),
            draws,
        )
        for (name, (own, weights)), draws in zip(terms.items(), drawn, strict=True)
    }
    of_lists = Value(logged.value, *interval(of_log))
    return Judgement(len(lists), of_lists, float(predicted.sum(1).mean()), estimates)
