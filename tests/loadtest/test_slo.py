"""The verdict: each objective alone can fail a run, and its own bound is still kept."""

from dataclasses import replace

import pytest

from loadtest.slo import Measured, Objectives, breaches

OBJECTIVES = Objectives(p99_ms=50.0, error_ratio=0.01, fallback_ratio=0.1)
ON_THE_BOUND = Measured(requests=200, errors=2, reranks=100, fallbacks=10, p99_ms=50.0)


def test_on_the_bound_is_kept() -> None:
    assert breaches(OBJECTIVES, ON_THE_BOUND) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"p99_ms": 51.0}, "rerank p99 in ms: 51, at most 50"),
        ({"errors": 3}, "error ratio: 0.015, at most 0.01"),
        ({"fallbacks": 11}, "fallback ratio: 0.11, at most 0.1"),
        ({"exceptions": 1}, "the load test itself failed 1 times"),
    ],
)
def test_each_objective_alone(change: dict[str, float], told: str) -> None:
    assert breaches(OBJECTIVES, replace(ON_THE_BOUND, **change)) == [told]


def test_nothing_measured_is_no_pass() -> None:
    assert breaches(OBJECTIVES, Measured(0, 0, 0, 0, 0.0)) == ["no rerank was sent"]
