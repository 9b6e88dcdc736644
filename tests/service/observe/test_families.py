"""Families as the library would write them, and as several processes keep them."""

import errno
from pathlib import Path

import prometheus_client as library
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.observe.families import (
    Exposed,
    Families,
    Family,
    add_up,
    bury,
    decode,
    encode,
    read_others,
    write,
)
from service.observe.instruments import Instruments

BOUNDS = (0.5, 1, 2592000)
VALUES = (0.5, 1.0, 1.5, 2.0, 7.0, 1e9)


def text(*processes: Families) -> list[str]:
    return generate_latest(Exposed(add_up(processes))).decode().splitlines()


def test_they_read_as_the_librarys_own() -> None:
    """Names, types, help texts, labels, buckets, escapes."""
    make, registry = Instruments(), CollectorRegistry()
    counter = make.counters("done_total", "Done.", "reason")
    gauge = make.gauge("depth", "Depth.", "sum")
    histogram = make.histograms("size", "Sizes.", BOUNDS, "kind")
    library_counter = library.Counter("rerank_done_total", "Done.", ["reason"], registry=registry)
    library_gauge = library.Gauge("rerank_depth", "Depth.", registry=registry)
    library_histogram = library.Histogram(
        "rerank_size", "Sizes.", ["kind"], buckets=BOUNDS, registry=registry
    )
    for each in (counter, library_counter):
        each.labels('a "quoted"\nline').inc()
        each.labels("b").inc(2.5)
    for one in (gauge, library_gauge):
        one.set(3)
        one.inc()
        one.dec()
        one.dec()
    for many in (histogram, library_histogram):
        for value in VALUES:
            many.labels("x").observe(value)
    theirs = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
    assert text(decode(make.encoded())) == theirs


def process(value: float, **more: Family) -> Families:
    labels = ("reason",)
    return {
        "c_total": Family("counter", "C.", labels, series={("a",): [value]}),
        "h": Family("histogram", "H.", bounds=(1.0,), series={(): [0.5, value, 1]}),
        "low": Family("gauge", "L.", together="min", series={(): [value]}),
        "high": Family("gauge", "H.", together="max", series={(): [value]}),
        "held": Family("gauge", "Held.", together="sum", series={(): [value]}),
        **more,
    }


def test_counts_add_up_and_gauges_as_they_say() -> None:
    lone = Family("counter", "One's own.", series={(): [7.0]})
    lines = text(process(2), process(3, lone_total=lone))
    for sample in (
        'c_total{reason="a"} 5.0',
        'h_bucket{le="1.0"} 5.0',
        'h_bucket{le="+Inf"} 7.0',
        "h_count 7.0",
        "h_sum 1.0",
        "low 2.0",
        "high 3.0",
        "held 5.0",
        "lone_total 7.0",
    ):
        assert sample in lines


def test_what_was_retired_counts_where_it_is_shown() -> None:
    shown = {"c_total": Family("counter", "C.", ("v",), series={("1",): [1.0]})}
    retired = {"c_total": Family("counter", "C.", ("v",), retired={("1",): [2.0], ("0",): [4.0]})}
    assert 'c_total{v="1"} 3.0' in text(shown, retired)
    assert 'c_total{v="0"}' not in "".join(text(shown, retired))
    assert text(retired) == []


def test_adding_up_changes_nothing_of_a_process() -> None:
    one, other = process(2), process(3)
    add_up((one, other))
    assert one == process(2)
    assert other == process(3)


def test_each_process_finds_the_others_files(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.families" for name in ("a", "b")]
    for value, path in enumerate(paths):
        write(path, encode(process(value)))
        write(path, encode(process(value + 1)))
    (tmp_path / "notes.txt").write_text("somebody else's")
    assert list(read_others(paths[0])) == [process(2)]
    assert list(read_others(tmp_path / "c.families")) == [process(1), process(2)]


def test_a_dead_process_leaves_its_counts_and_not_its_gauges(tmp_path: Path) -> None:
    path = tmp_path / "a.families"
    bury(path)  # it died before it wrote anything
    write(path, encode(process(2)))
    bury(path)
    assert set(decode(path.read_bytes())) == {"c_total", "h"}


def test_a_full_disk_is_an_error_and_leaves_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.families"
    write(path, encode(process(1)))
    (tmp_path / "a.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write(path, encode(process(2)))
    assert caught.value.errno == errno.ENOSPC
    assert decode(path.read_bytes()) == process(1)
