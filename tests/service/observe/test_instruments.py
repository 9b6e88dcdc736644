"""Instruments count into families; what these say is test_families'."""

import numpy as np
import pytest

from service.observe.families import Families, decode
from service.observe.instruments import Instruments

BOUNDS = (1.0, 2.0, 5.0)


def families(make: Instruments) -> Families:
    return decode(make.encoded())


@pytest.mark.parametrize(("value", "bucket"), [(0.5, 0), (1.0, 0), (1.5, 1), (5.0, 2), (7.0, 3)])
def test_a_bound_belongs_to_its_bucket(value: float, bucket: int) -> None:
    make = Instruments()
    histogram = make.histogram("size", "Sizes.", BOUNDS)
    histogram.observe(value)
    assert histogram.counts.index(1) == bucket
    assert families(make)["rerank_size"].series[()] == [value, *histogram.counts]


def test_what_has_not_happened_is_there_at_0() -> None:
    make = Instruments()
    counter = make.counters("done_total", "Done.", "reason", initial=("a", "b"))
    counter.labels("b").inc()
    assert families(make)["rerank_done_total"].series == {("a",): [0], ("b",): [1]}


def test_constant_labels_come_first() -> None:
    make = Instruments()
    make.labelled(model="m", version="1").counters("done_total", "Done.", "reason").labels("a").inc(2)
    made = families(make)["rerank_done_total"]
    assert made.labels == ("model", "version", "reason")
    assert made.series == {("m", "1", "a"): [2]}


def two_models(make: Instruments) -> list[Instruments]:
    made = [make.labelled(model="m", version=version) for version in "12"]
    for version in made:
        version.counter("done_total", "Done.").inc(3)
        version.gauge("depth", "Depth.", "sum").set(4)
    make.counter("requests_total", "Requests.").inc()
    return made


@pytest.mark.parametrize("retire", [False, True])
def test_only_what_has_the_constant_labels_is_removed(retire: bool) -> None:
    make = Instruments()
    one, _ = two_models(make)
    one.remove("counter", "gauge", retire=retire)
    left = families(make)
    assert left["rerank_done_total"].series == {("m", "2"): [3]}
    assert left["rerank_done_total"].retired == ({("m", "1"): [3]} if retire else {})
    assert left["rerank_depth"].series == {("m", "2"): [4]}
    assert left["rerank_depth"].retired == {}, "what is gone holds nothing"
    assert left["rerank_requests_total"].series == {(): [1]}
    one.counter("done_total", "Done.").inc()
    assert families(make)["rerank_done_total"].series[("m", "1")] == [4 if retire else 1]


def test_a_successor_counts_on() -> None:
    before = Instruments()
    two_models(before)
    make = Instruments(families(before))
    make.counter("requests_total", "Requests.").inc()
    assert families(make)["rerank_requests_total"].series == {(): [2]}


def test_numbers_of_numpy_are_numbers() -> None:
    make = Instruments()
    make.histogram("size", "Sizes.", BOUNDS).observe(np.float32(1.5))
    make.gauge("active", "Active.", "min").set(np.bool_(True))
    make.counter("done_total", "Done.").inc(np.int64(2))
    found = families(make)
    assert found["rerank_size"].series[()] == [1.5, 0, 1, 0, 0]
    assert found["rerank_active"].series[()] == [1]
    assert found["rerank_done_total"].series[()] == [2]
