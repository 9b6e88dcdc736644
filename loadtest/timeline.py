"""What was answered when, and how late: a histogram of latencies for each second of a run.

Small whatever the run's length, exact to 1 % in latency, and merged from many workers by addition, so that
percentiles of any part of a distributed run can be computed. Knows nothing of Locust.
"""

from collections import Counter
from collections.abc import Mapping
from math import exp, log, log1p
from typing import Any, NamedTuple

GROWTH = log1p(0.02)
"""Of the logarithmic buckets: neighbours are 2 % apart."""

OK, FALLBACK, ERROR = "ok", "fallback", "error"
RERANKS = (OK, FALLBACK, ERROR)
FEEDBACK, FEEDBACK_ERROR = "feedback", "feedback_error"
LATE = "late"
"""A rerank that the sender was late to send, counted beside its outcome: a sender at its limit."""
STORELESS = "storeless"
"""A rerank whose user could not be looked up, counted beside its outcome: it was answered, as for anybody."""


class Part(NamedTuple):
    """Some seconds of a run, or all of them.

    Attributes:
        counts: answers by outcome.
        latencies: of reranks, errors and fallbacks too; bucket to count.
    """

    counts: Counter[str]
    latencies: Counter[int]

    @property
    def reranks(self) -> int:
        return sum(self.counts[outcome] for outcome in RERANKS)

    @property
    def requests(self) -> int:
        return self.counts.total() - self.counts[LATE] - self.counts[STORELESS]

    @property
    def fallbacks(self) -> int:
        return self.counts[FALLBACK]

    @property
    def storeless(self) -> int:
        return self.counts[STORELESS]

    @property
    def late_ratio(self) -> float:
        """Of the reranks."""
        return self.counts[LATE] / self.reranks if self.reranks else 0.0

    @property
    def errors(self) -> int:
        return self.counts[ERROR] + self.counts[FEEDBACK_ERROR]

    @property
    def error_ratio(self) -> float:
        """Of all requests."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def fallback_ratio(self) -> float:
        """Of the reranks."""
        return self.fallbacks / self.reranks if self.reranks else 0.0

    @property
    def storeless_ratio(self) -> float:
        """Of the reranks."""
        return self.storeless / self.reranks if self.reranks else 0.0

    def percentile_ms(self, share: float) -> float | None:
        """The latency that this share of the reranks did not exceed; None without any."""
        wanted, seen = share * self.reranks, 0
        for bucket in sorted(self.latencies):
            seen += self.latencies[bucket]
            if seen >= wanted:
                return exp(bucket * GROWTH)
        return None


class Timeline:
    """Answers by the second in which their request was sent, or was to be sent; unix seconds."""

    def __init__(self) -> None:
        self._seconds: dict[int, dict[str, Counter[int]]] = {}

    def add(self, at_s: float, outcome: str, latency_ms: float) -> None:
        outcomes = self._seconds.setdefault(int(at_s), {})
        outcomes.setdefault(outcome, Counter())[round(log(max(latency_ms, 1e-3)) / GROWTH)] += 1

    def part(self, start_s: float, end_s: float) -> Part:
        """The whole seconds from `start_s` to before `end_s`."""
        counts: Counter[str] = Counter()
        latencies: Counter[int] = Counter()
        for second, outcomes in self._seconds.items():
            if start_s <= second < end_s:
                for outcome, buckets in outcomes.items():
                    counts[outcome] += buckets.total()
                    if outcome in RERANKS:
                        latencies += buckets
        return Part(counts, latencies)

    def whole(self) -> Part:
        return self.part(float("-inf"), float("inf"))

    def take(self) -> dict[str, Any]:
        """Everything, as plain values to be sent, and forgotten here."""
        taken = {
            str(second): {outcome: list(buckets.items()) for outcome, buckets in outcomes.items()}
            for second, outcomes in self._seconds.items()
        }
        self._seconds = {}
        return taken

    def merge(self, taken: Mapping[str, Mapping[str, Any]]) -> None:
        """Add what another timeline handed over."""
        for second, outcomes in taken.items():
            mine = self._seconds.setdefault(int(second), {})
            for outcome, buckets in outcomes.items():
                mine.setdefault(outcome, Counter()).update({int(b): int(n) for b, n in buckets})
