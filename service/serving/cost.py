"""What a batch is predicted to take, in seconds.

Learned at warm-up (`service.serving.warm_up`) for lists of a few lengths, between which it interpolates, and
kept current by what batches take. Knows nothing of queues or deadlines.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from constraints.layout import BITS, COUNTED, EFFORT, KINDS, RULES
from constraints.planning import Plan

RECENT = 31
"""Batches whose median pace counts: odd, and so many that a stall, or fifteen of them, moves nothing."""

SMOOTHING = 0.1
"""Weight of the newest batch in the share of reasoning and lookahead that is done."""

STATE_S, STATE_RULE_S, STATE_KIND_S, JUDGED_S = 4e-7, 3e-8, 5e-8, 2e-7
"""A state of a search under rules, and of that each rule and each kind of candidates; a kind judged for a
position. On a 2-core Xeon, as far as hundreds of random rules tell. A bound needs no more."""

LEAST_SEARCH_S = 2e-4
"""What takes less is written in what no clock can tell from a list without rules."""


class Timing(NamedTuple):
    """What one list of some length takes alone.

    Attributes:
        candidates: its length.
        encoding_s: all that does not depend on the slate's length.
        position_s, token_s: each item of the slate, and each reasoning token.
        looking_s: what a lookahead adds once, however far it looks.
        judged_s: each place of each list that is completed and judged.
    """

    candidates: int
    encoding_s: float
    position_s: float
    token_s: float
    looking_s: float = 0.0
    judged_s: float = 0.0


class Price(NamedTuple):
    """Of one request, alone, at warm-up's pace.

    Attributes:
        least_s: without reasoning.
        most_s: with all the reasoning and lookahead it may do.
        token_s: of each reasoning token.
        looking_s: what a lookahead adds once.
        judged_s: of each list that is judged, without its reasoning.
        searched_s: of `least_s`, what its rules may take: a bound, that few come near.
    """

    least_s: float
    most_s: float
    token_s: float
    looking_s: float = 0.0
    judged_s: float = 0.0
    searched_s: float = 0.0

    def under(self, rules: Plan | None) -> "Price":
        """Of the same list under rules."""
        seconds = 0.0 if rules is None else searched_s(rules)
        if not seconds:
            return self
        return self._replace(least_s=self.least_s + seconds, most_s=self.most_s + seconds, searched_s=seconds)

    def spent_s(self, tokens: int, judged: int) -> float:
        """Beyond the least, with so many tokens and lists judged. A list that is completed is so from halfway
        on average, and reasons there as the first did."""
        looking = self.looking_s + judged * self.judged_s if judged else 0.0
        return looking + self.token_s * tokens * (1.0 + 0.5 * judged)


def searched_s(rules: Plan) -> float:
    """Seconds that rules take while a list is written: at each position every kind of candidates is judged;
    and where planning had to go back, or rules are so many that it says little, all states that are left may
    be searched. 0 where counts decide."""
    packed = rules.packed
    if packed[COUNTED]:
        return 0.0
    count, kinds = int(packed[RULES]), int(packed[KINDS])
    seconds = rules.length * kinds * JUDGED_S
    if rules.states > 2 * rules.length or count > BITS:
        seconds += float(packed[EFFORT]) * (STATE_S + count * STATE_RULE_S + kinds * STATE_KIND_S)
    return seconds if seconds >= LEAST_SEARCH_S else 0.0


class CostModel:
    """Prices of requests and of batches, at warm-up's pace.

    Attributes:
        marginal: what one more list adds to a batch, over what it takes alone.
    """

    def __init__(self, timings: Sequence[Timing], marginal: float) -> None:
        """
        Args:
            timings: by `candidates`; longer lists than the last are priced in proportion to it.
        """
        lengths = [timing.candidates for timing in timings]
        self._longest, self.marginal = lengths[-1], marginal
        every = np.arange(self._longest + 1)
        measured = np.array([timing[1:] for timing in timings])
        columns = np.minimum.accumulate(measured[::-1])[
            ::-1
        ]  # a shorter list takes no longer: noise only adds
        self._by_length = list(zip(*(np.interp(every, lengths, c).tolist() for c in columns.T), strict=True))

    def price(self, candidates: int, slate_length: int, reasoning_budget: int, lookahead: int = 0) -> Price:
        """A list loses a candidate with each position, so the average one is over fewer."""
        average = candidates - slate_length // 2
        beyond = max(1.0, candidates / self._longest)
        encoding, _, _, looking, _ = self._by_length[min(candidates, self._longest)]
        _, position, token, _, judged = self._by_length[min(average, self._longest)]
        least = beyond * (encoding + position * slate_length)
        price = Price(least, least, beyond * token, beyond * looking, beyond * judged * slate_length)
        most = least + price.spent_s(slate_length * reasoning_budget, slate_length * lookahead)
        return price._replace(most_s=most)

    def batch_s(self, alone_s: Iterable[float]) -> float:
        """Of lists that take this much alone."""
        seconds = list(alone_s)
        return self.marginal * sum(seconds) + (1.0 - self.marginal) * max(seconds, default=0.0)


class Pace:
    """How much slower or faster than at warm-up batches are now, and how much they reason and look ahead.

    The median of recent batches: neither a stalled process nor an outlier moves it.

    Attributes:
        factor: of predicted seconds.
        extra: share of the time allowed for reasoning and lookahead that is spent, 0 to 1.
    """

    def __init__(self) -> None:
        self.factor, self.extra = 1.0, 0.0
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def took(self, predicted_s: float, seconds: float, spent: float) -> None:
        """A batch took this long.

        Args:
            predicted_s: for what it did, at warm-up's pace.
            spent: share of the time allowed for reasoning and lookahead.
        """
        ratio = seconds / predicted_s
        self._recent.append(ratio)
        insort(self._sorted, ratio)
        if len(self._recent) > RECENT:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self.factor = self._sorted[len(self._sorted) // 2]
        self.extra += SMOOTHING * (spent - self.extra)
