"""Instruments that count first and write later, against the library's own."""

import os
import subprocess
import sys
from pathlib import Path

import prometheus_client as library
import pytest
from prometheus_client import CollectorRegistry

from service.observe.instruments import Instruments

ROOT = Path(__file__).parents[3]
BOUNDS = (1.0, 2.0, 5.0)
VALUES = (0.5, 1.0, 1.5, 2.0, 7.0, 100.0)


def test_a_histogram_says_what_the_librarys_says() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    instruments = Instruments(ours, "t_")
    histogram = instruments.histogram("size", "Sizes.", BOUNDS)
    plain = library.Histogram("t_size", "Sizes.", buckets=BOUNDS, registry=theirs)
    for value in VALUES:
        histogram.observe(value)
        plain.observe(value)
        instruments.write()
    said, expected = [
        {(s.name, *s.labels.values()): s.value for family in registry.collect() for s in family.samples}
        for registry in (ours, theirs)
    ]
    created = ("t_size_created",)
    assert said.pop(created) == pytest.approx(expected.pop(created), abs=10)
    assert said == expected


def test_nothing_is_written_twice() -> None:
    registry = CollectorRegistry()
    instruments = Instruments(registry, "t_")
    counter = instruments.counters("done_total", "Done.", "reason", initial=("a", "b"))
    gauge = instruments.gauge("depth", "Depth.", "livesum")
    for amount in (1, 0, 2):
        counter.labels("a").inc(amount)
        gauge.inc()
        instruments.write()
        instruments.write()
    gauge.dec()
    instruments.write()
    assert registry.get_sample_value("t_done_total", {"reason": "a"}) == 3
    assert registry.get_sample_value("t_done_total", {"reason": "b"}) == 0
    assert registry.get_sample_value("t_depth") == 2


WORKER = """
import asyncio, sys
from service.observe.metrics import Metrics
metrics = Metrics()
metrics.list_size.observe(float(sys.argv[1]))
metrics.inflight.inc()
metrics.context_lookups.labels("hit").inc(3)
metrics.drift.labels("score", "all").set(float(sys.argv[1]) / 100)
print(asyncio.run(metrics.text()).decode(), flush=True)
sys.stdin.read()
"""


def test_what_two_processes_count_adds_up(tmp_path: Path) -> None:
    """Counts and gauges of both, from whichever is asked; the drift is the worst of them."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    first = subprocess.Popen(
        [sys.executable, "-c", WORKER, "10"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    while "rerank_score_sum" not in first.stdout.readline():  # it has written
        pass
    second = subprocess.run(
        [sys.executable, "-c", WORKER, "40"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    first.communicate("", timeout=20)
    lines = second.stdout.splitlines()
    for sample in (
        "rerank_list_size_count 2.0",
        "rerank_list_size_sum 50.0",
        'rerank_list_size_bucket{le="10.0"} 1.0',
        "rerank_inflight_requests 2.0",
        'rerank_context_lookups_total{result="hit"} 6.0',
        'rerank_context_lookups_total{result="miss"} 0.0',
        'rerank_drift_psi{position="all",signal="score"} 0.4',
    ):
        assert sample in lines
    assert not [line for line in lines if "pid=" in line]


@pytest.mark.parametrize("value", BOUNDS)
def test_a_bound_belongs_to_its_bucket(value: float) -> None:
    registry = CollectorRegistry()
    instruments = Instruments(registry, "t_")
    instruments.histogram("size", "Sizes.", BOUNDS).observe(value)
    instruments.write()
    assert registry.get_sample_value("t_size_bucket", {"le": str(value)}) == 1
