"""The report renders whatever is stored, and every mark has its row."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import figures, marks
from bench.machine import RESULTS
from bench.peers.rates import RACES
from bench.tables import BLOCKS, blocks

ABOUT = {"hardware": "2-core machine", "versions": {"python": "3.11"}, "commit": "abc"}


def engine_row(variant: str, batch: int, s_max: int, us: float) -> dict[str, Any]:
    size = {"variant": variant, "batch": batch, "candidates": 50, "s_max": s_max}
    return {**size, "micro_steps": 14.0, "us_per_request": us, "floor_us": 100.0, "times_floor": us / 100}


def run_row(**named: Any) -> dict[str, Any]:
    timing = {"p50_ms": 2.0, "p90_ms": 3.0, "p99_ms": 5.0, "per_second": 900.0, "failed": 0}
    return {**timing, "server_cpu_us": 800.0, **named}


@pytest.fixture
def results() -> dict[str, Any]:
    """One of each, with figures that hold some marks and miss others."""
    peer_rows = [
        run_row(decoding=decoding, server=server, connections=c, round=0, per_second=speed)
        for decoding in RACES
        for server, speed in {"ours": 1000.0, "litserve": 500.0, "bentoml": 250.0, "ray_serve": 250.0}.items()
        for c in marks.CONNECTIONS
    ]
    flat = {"after_warm_up_mib": 100.0, "highest_mib": 102.0, "growth": 0.02, "resident_mib": [100.0, 102.0]}
    found = {
        "engine": {
            "rows": [
                engine_row("graph", batch, s, us)
                for batch, times in {1: (300.0, 350.0), 16: (200.0, 300.0)}.items()
                for s, us in zip((0, 3), times, strict=True)
            ],
            "padding": [
                {"variant": "graph", "batches": order, "us_per_request": us}
                for order, us in (("as they come", 300.0), ("of like lengths", 234.0))
            ],
        },
        "constraints": {
            "rows": {
                "none": {"us_per_request": 300.0, "times": 1.0, "planning_us": 0.0},
                "all together": {"us_per_request": 330.0, "times": 1.1, "planning_us": 90.0},
            }
        },
        "decisions": {
            "rows": [
                {
                    "connections": 32,
                    "off_per_second": 1000.0,
                    "per_second": 970.0,
                    "ratio": 0.97,
                    "ratio_quartiles": [0.96, 0.98],
                    "off_cpu_us": 900,
                    "cpu_us": 930,
                    "failed": 0,
                }
            ],
            "sizes": [{"kind": "ids", "body": 740, "line": 3000, "packed": 700}],
        },
        "before": {
            "against": "8683ae8",
            "rows": [
                {
                    "connections": c,
                    "before_per_second": 1000.0,
                    "per_second": 900.0,
                    "ratio": 0.9,
                    "ratio_quartiles": [0.88, 0.93],
                    "failed": 0,
                }
                for c in (1, 8, 32)
            ],
        },
        "serving": {
            "share_of_engine": 0.75,
            "p99_over_p50_at_70": 4.5,
            "saturation_per_second": 1000.0,
            "closed": [
                run_row(variant="memory", kind="ids", connections=32),
                run_row(variant="memory", kind="ids", connections=1, p50_ms=2.5),
            ],
            "open": [run_row(fraction=0.7, offered_per_second=700.0)],
        },
        "overload": {
            "goodput": [run_row(connections=c, requests=9, in_time_per_second=800.0) for c in (5, 200)],
            "goodput_ratio": 0.8,
            "greedy": [run_row(requests=9), run_row(requests=9, failed=3)],
            "greedy_ratio": 2.5,
            "burst": [run_row(requests=9), run_row(requests=17)],
            "stall": run_row(requests=9),
            "stall_failed": 0,
        },
        "stages": {
            "rows": [
                {
                    "case": case,
                    "connections": 1,
                    "other_cpu_us": us,
                    "engine_cpu_us": 400.0,
                    "failed": 0,
                    "stages_us": {"parse": 20.0, "infer": 400.0},
                }
                for case, us in {"ids, anonymous": 140.0, "features, anonymous": 400.0}.items()
            ]
            + [
                {
                    "case": "bare",
                    "connections": 1,
                    "other_cpu_us": 70.0,
                    "engine_cpu_us": 0.0,
                    "failed": 0,
                    "stages_us": {},
                }
            ]
        },
        "peers": {
            "peers": {peer: {"version": "1", "tuning": "none"} for peer in marks.PEER_MARKS},
            "rows": peer_rows,
        },
        "memory": {
            "requests": {"requests": 1000, **flat},
            "swaps": {"swaps": 10, **flat, "growth": 0.2},
            "allocators": [{"allocator": "arena off", "us_per_request": 500.0, **flat}],
        },
        "tracing": {"cpu_us_a_request": {"off": 800.0, "a_tenth": 900.0, "all": 1200.0}},
        "training": {"spent": {"1": {"warm start": [2.0, 2.0]}, "2": {"warm start": [1.2, 1.1]}}},
        "bulk": {
            "rows": [
                {
                    "candidates": 50,
                    "engine_per_core_second": 2000,
                    "bulk_per_core_second": 1500,
                    "share_of_engine": 0.75,
                }
            ]
        },
        "logs": {
            "rows": [
                {
                    "lists": 10_000,
                    "format": "parquet",
                    "peak_gib": 0.51,
                    "seconds": {"read": 12.5, "check": 0.5, "fit": 0.4, "batches": 5.9},
                }
            ]
        },
        "large_lists": {
            "growth": {"graph": {"light": 2.0}, "native": {"light": 20.0}},
            "p50_ms": {"graph": {"light": {"1000": 12.0}}, "native": {"light": {"1000": 3.0}}},
            "recommended": "light",
            "quality": [
                {"lists_by": "light", "n": n, "true_value": 2.0, "minus_full": {"mean": mean}}
                for n, mean in ((50, 0.1), (1000, -0.01), (2000, -1.0))
            ],
        },
    }
    return {name: {**ABOUT, **value} for name, value in found.items()}


def test_every_mark_is_judged(results: dict[str, Any]) -> None:
    made = {mark["name"]: mark for mark in marks.marks(results)}
    assert len(made) == 32
    missed = {name for name, mark in made.items() if not mark["holds"]}
    assert missed == {
        "engine, N = 50: time over the arithmetic floor, batch of 16",
        "large-list encoder: p50 at N = 1000, ms",
        *(f"service over 8683ae8, c = {c}: requests/s" for c in (1, 8, 32)),
        *(f"service over Ray Serve, c = {c}: requests/s" for c in (1, 8, 32, 64)),
        "service, open loop at 70 % of saturation: p99 / p50",
        "p50 beside a greedy client over that alone",
        "CPU a request without inference, µs: full features",
        "resident memory, 100 bundle swaps: growth, %",
        "price of reasoning, N = 50: time at S_max = 3 over S_max = 0",
    }
    assert made["price of reasoning, N = 50: time at S_max = 3 over S_max = 0"]["value"] == 1.5
    lost = made["large-list encoder: value lost to full attention, worst N up to 1000, %"]
    assert lost["value"] == pytest.approx(0.5)


def test_native_decoding_counts_where_there_is_any(results: dict[str, Any]) -> None:
    results["engine"]["rows"] += [engine_row("native", batch, s, 150.0) for batch in (1, 16) for s in (0, 3)]
    made = marks.marks(results)
    assert made[0]["value"] == 1.5
    assert made[0]["holds"]


def test_what_was_not_measured_holds_nothing() -> None:
    made = marks.marks({})
    assert len(made) == 32
    assert all(mark["value"] is None and not mark["holds"] and mark["command"] for mark in made)


def test_every_result_becomes_a_block(results: dict[str, Any]) -> None:
    made = blocks(results)
    assert "250 (4.0 x)" in made["peers"]
    assert "18 of 32 hold" in made["marks"]
    assert "| all together | 330 | 1.10 | 90 |" in made["constraints"]
    assert "| of like lengths | 234 |" in made["padding"]
    assert "| **this service** | 1,000 | 1,000 | 1,000 | 1,000 |" in made["rates"]
    assert "| a tenth | 900 | +12% |" in made["tracing"]
    assert "| 50 | 2000 | 1500 | 75% |" in made["bulk"]
    assert "| 10,000 | parquet | 0.51 | 12.5 | 0.5 | 0.4 | 5.9 |" in made["logs"]
    assert made["alone"] == "2.5"
    assert all(ABOUT["commit"] in made[name] for name in BLOCKS)
    unmeasured = blocks({})
    assert "`make bench-peers`" in unmeasured["peers"]
    assert unmeasured["alone"] == "not measured"
    assert set(unmeasured) == set(made)


def test_figures_are_drawn(results: dict[str, Any], tmp_path: Path) -> None:
    figures.draw(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"performance-{name}.png" for name in ("open-loop", "peers", "memory")
    }


def test_stored_marks_have_every_row() -> None:
    stored = json.loads((RESULTS / "marks.json").read_text())
    assert [mark["name"] for mark in stored] == [spec.name for spec in marks.specs()]
    assert all(set(mark) >= {"name", "value", "mark", "holds", "command"} for mark in stored)
