"""The verdict: each objective alone can fail a run, and its own bound is still kept."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.slo import ENOUGH, Measured, Objectives, breaches
from loadtest.timeline import OK, STORELESS, Timeline

OBJECTIVES = Objectives(p99_ms=50.0, error_ratio=0.01, fallback_ratio=0.1, storeless_ratio=0.01)
ON_THE_BOUND = Measured(requests=200, errors=2, reranks=100, fallbacks=10, p99_ms=50.0, storeless=1)


def test_on_the_bound_is_kept() -> None:
    assert breaches(OBJECTIVES, ON_THE_BOUND) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"p99_ms": 51.0}, "rerank p99 in ms: 51, at most 50"),
        ({"errors": 3}, "error ratio: 0.015, at most 0.01"),
        ({"fallbacks": 11}, "fallback ratio: 0.11, at most 0.1"),
        ({"storeless": 2}, "storeless ratio: 0.02, at most 0.01"),
        ({"exceptions": 1}, "the load test itself failed 1 times"),
    ],
)
def test_each_objective_alone(change: dict[str, float], told: str) -> None:
    assert breaches(OBJECTIVES, replace(ON_THE_BOUND, **change)) == [told]


def test_nothing_measured_is_no_pass() -> None:
    assert breaches(OBJECTIVES, Measured(0, 0, 0, 0, None)) == ["no rerank was sent"]


def test_the_objectives_are_those_of_production() -> None:
    rules = Path(__file__).parents[2] / "deploy/prometheus/rules"
    slow, failed = Objectives().p99_ms / 1000, Objectives().error_ratio
    assert f'le="{slow:g}"' in (rules / "recording.yml").read_text()
    alerts = (rules / "alerts.yml").read_text()
    assert f"job:rerank_unavailable:ratio_rate1h > 14.4 * {failed:g}" in alerts
    assert "job:rerank_slow:ratio_rate1h > 14.4 * 0.01" in alerts, "the 99th percentile"


def test_a_level_has_a_percentile_only_of_enough() -> None:
    timeline = Timeline()
    for _ in range(ENOUGH):
        timeline.add(0.0, OK, 80.0)
        timeline.add(0.0, STORELESS, 80.0)
    part = timeline.whole()
    assert breaches(OBJECTIVES, Measured.of(part, enough=ENOUGH))[0].startswith("rerank p99 in ms: 79")
    few = breaches(OBJECTIVES, Measured.of(part, enough=ENOUGH + 1))
    assert few == ["storeless ratio: 1, at most 0.01"]
