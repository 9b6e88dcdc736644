"""The timeline against plain arithmetic over all latencies, and merged as if it had been one."""

import json

import numpy as np
import pytest

from loadtest.shapes import Level
from loadtest.summary import summarise
from loadtest.timeline import ERROR, FALLBACK, FEEDBACK, FEEDBACK_ERROR, LATE, OK, STORELESS, Timeline


def test_percentiles_are_exact_to_one_percent() -> None:
    latencies = np.random.default_rng(0).lognormal(2.0, 1.0, 5000)
    timeline = Timeline()
    for latency in latencies:
        timeline.add(7.5, OK, latency)
    whole = timeline.whole()
    for share in (0.5, 0.9, 0.99, 0.999):
        exact = np.quantile(latencies, share, method="inverted_cdf")
        assert whole.percentile_ms(share) == pytest.approx(exact, rel=0.0101)


def test_outcomes_are_told_apart() -> None:
    timeline = Timeline()
    for outcome, latency in (
        (LATE, 70),
        (STORELESS, 1),
        (OK, 1),
        (OK, 2),
        (FALLBACK, 50),
        (ERROR, 900),
        (FEEDBACK, 5000),
        (FEEDBACK_ERROR, 1),
    ):
        timeline.add(0.0, outcome, latency)
    whole = timeline.whole()
    assert (whole.requests, whole.reranks, whole.errors) == (6, 4, 2)
    assert whole.error_ratio == 2 / 6
    assert whole.fallback_ratio == whole.late_ratio == whole.storeless_ratio == 1 / 4
    assert whole.percentile_ms(1.0) == pytest.approx(900, rel=0.0101), "of reranks, failed ones too"


def test_nothing_has_no_percentile() -> None:
    empty = Timeline().whole()
    assert (empty.percentile_ms(0.5), empty.error_ratio, empty.fallback_ratio) == (None, 0.0, 0.0)


def test_what_workers_send_adds_up() -> None:
    alone, master, workers = Timeline(), Timeline(), [Timeline(), Timeline()]
    for number in range(300):
        answer = (100.0 + number % 3, (OK, FALLBACK)[number % 2], 1.0 + number)
        alone.add(*answer)
        workers[number % 2].add(*answer)
        if number in (100, 299):
            for worker in workers:
                master.merge(json.loads(json.dumps(worker.take())))
    assert master.part(100.0, 101.0) == alone.part(100.0, 101.0)
    assert master.take() == alone.take()
    assert not workers[0].whole().counts, "taken once"


def test_summary_by_level_and_second() -> None:
    """Ten a second, then forty; of a level count whole seconds, its first one left out."""
    timeline, started_s = Timeline(), 1000.25
    for second in range(1000, 1011):
        for number in range(10 if second < 1006 else 40):
            timeline.add(second + number / 50, OK if number else FALLBACK, 5.0 if second < 1006 else 20.0)
    summary = summarise(timeline, started_s, [Level(0.0, 5.0, 2), Level(5.0, 10.0, 8)], rate_per_user=5.0)
    low, high = summary["levels"]
    assert (low["offered_per_s"], high["offered_per_s"], summary["most_offered_per_s"]) == (10.0, 40.0, 40.0)
    assert (low["reranks"], low["reranks_per_s"]) == (30, 10.0)
    assert (high["reranks"], high["reranks_per_s"]) == (120, 40.0)
    assert (low["p99_ms"], high["p50_ms"]) == (pytest.approx(5, rel=0.02), pytest.approx(20, rel=0.02))
    assert (low["fallback_ratio"], high["fallback_ratio"]) == (0.1, 0.025)
    assert summary["reranks"] == 6 * 10 + 5 * 40
    assert [second["reranks"] for second in summary["seconds"]] == [10] * 6 + [40] * 5
    assert summary["started"] == "1970-01-01T00:16:40+00:00"
    closed = summarise(timeline, started_s, [Level(0.0, 10.0, 2)], rate_per_user=None)
    assert closed["most_offered_per_s"] is None
    json.dumps(summary)
