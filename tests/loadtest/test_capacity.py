"""Plans grow with what is asked, by hand where that is easy, and nonsense is named."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from loadtest.capacity import GIB, Demand, Measured, Plan, Site

DEMAND, SITE = Demand(rate=10_000, users=1e7), Site()


def alone_us(items: int, top_n: int, tokens: int) -> float:
    return 20 + 2 * items + 5 * top_n + 0.1 * top_n * items + 4 * top_n * tokens


@pytest.fixture
def results() -> dict[str, Any]:
    sizes = [(n, k, s) for n, k, s in product((10, 50, 200), (5, 10), (0, 3))]
    return {
        "wire_us": 50.0,
        "wakes_us": {"1.0": [100.0]},
        "rest_us": 0.0,
        "rounds_us": [[1.0, 100.0]],
        "marginal": 0.6,
        "extras_us": [0.0],
        "cells": [
            {
                **dict(zip(("items", "top_n", "tokens"), size, strict=True)),
                "alone_us": alone_us(*size),
                "request_us": 300.0 + size[0],
            }
            for size in sizes
        ],
        "worker_mib": 300.0,
        "proxy_cpu_us": 50.0,
        "redis_cpu_us": 40.0,
        "redis_bytes": {
            "context": {"0": 100.0, "20": 900.0, "200": 8100.0},
            "recommendation": {"0": 120.0, "50": 220.0},
            "token": 80.0,
            "event_id": 10.0,
        },
    }


def planned(results: dict[str, Any], demand: Demand = DEMAND, site: Site = SITE) -> Plan:
    return Measured(results).plan(demand, site)


def test_times_of_sizes_that_were_not_measured_lie_between(results: dict[str, Any]) -> None:
    measured = Measured(results)
    assert measured.worst_fit < 0.01
    times = measured.times(replace(DEMAND, items=120, top_n=8, tokens=2))
    assert times.alone_s[0] == pytest.approx(1e-6 * alone_us(120, 8, 2), rel=0.01)
    assert times.request_s == pytest.approx(420e-6, rel=0.01)


def test_redis_holds_users_and_lists_until_their_feedback(results: dict[str, Any]) -> None:
    plan = planned(results, replace(DEMAND, events=40, ttl_s=3600.0))
    user = 900 + 20 * 40 + 80 + 40 * 10
    assert plan.redis_users_gib == pytest.approx(2 * 1e7 * user / GIB)
    assert plan.redis_lists_gib == pytest.approx(2 * 10_000 * 3600 * 220 / GIB)
    assert plan.redis_nodes == max(
        6, ceil(1.5 * (plan.redis_users_gib + plan.redis_lists_gib) / 64), 2 * ceil(10_000 * 40e-6 / 0.5)
    )


def test_a_zone_may_be_lost(results: dict[str, Any]) -> None:
    plan = planned(results)
    assert plan.machines * 2 / 3 * 15 >= plan.workers * 0.999
    assert plan.workers == ceil(10_000 / plan.worker_rate)
    assert planned(results, replace(DEMAND, rate=1.0)).machines == 3, "one in each"


@pytest.mark.parametrize(
    ("more", "of"),
    [
        ({"items": 200}, "workers"),
        ({"tokens": 3}, "workers"),
        ({"top_n": 5}, "worker_rate"),
        ({"p99_ms": 500.0}, "worker_rate"),
        ({"rate": 200_000}, "machines"),
        ({"users": 1e9}, "redis_nodes"),
        ({"events": 200}, "redis_users_gib"),
    ],
)
def test_more_takes_more(results: dict[str, Any], more: dict[str, Any], of: str) -> None:
    assert getattr(planned(results, replace(DEMAND, **more)), of) > getattr(planned(results), of)


@pytest.mark.parametrize(
    ("nonsense", "named"),
    [
        (["--rate", "0"], "rate: expected at least 1, got 0"),
        (["--rate", "nan"], "rate: expected at least 1, got nan"),
        (["--rate", "inf"], "rate: expected at least 1, got inf"),
        (["--users", "-5"], "users: expected at least 1"),
        (["--rate", "1e30"], "rate, users: expected at most"),
        (["--items", "0"], "items: expected at least 1"),
        (["--top-n", "51"], "top_n: expected at most items, 50, got 51"),
        (["--items", "100000"], "items: measured up to 200"),
        (["--tokens", "9"], "tokens: measured up to 3"),
        (["--p99-ms", "1"], "p99_ms: a list that comes alone"),
        (["--headroom", "1"], "headroom: expected 0 to below 1"),
        (["--zones", "1"], "zones: expected at least 2"),
        (["--cores", "1"], "cores: expected at least 2"),
        (["--redis-gib", "0"], "redis_gib: expected more than 0"),
    ],
)
def test_nonsense_is_named(
    results: dict[str, Any],
    tmp_path: Path,
    nonsense: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from loadtest import capacity

    results["extras_us"] = [0.0] * 50 + [5000.0]
    (tmp_path / "measured.json").write_text(json.dumps(results))
    told = ["capacity", "--measured", str(tmp_path / "measured.json"), "--rate", "1000", "--users", "1e6"]
    monkeypatch.setattr(sys, "argv", [*told, *nonsense])
    assert capacity.main() == 2
    assert named in capsys.readouterr().err


def test_files_that_are_none_of_ours_are_refused(tmp_path: Path, results: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Is a directory"):
        Measured.read(tmp_path)
    with pytest.raises(ValueError, match=r"is not there: `python -m bench.capacity`"):
        Measured.read(tmp_path / "none.json")
    for text in ("{", "[]", "{}", json.dumps(results | {"cells": [{"items": 1}]})):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(ValueError, match=r"is not what bench.capacity writes"):
            Measured.read(tmp_path / "other.json")


def test_the_command_prints_what_is_stored() -> None:
    """From this project's own measurements."""
    told = [sys.executable, "-m", "loadtest.capacity", "--rate", "1e3", "--users", "1e6"]
    run = subprocess.run(told, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert run.returncode == 0, run.stderr
    header, line, fitted = run.stdout.splitlines()
    assert len(header.split(" | ")) == len(line.split(" | "))
    assert fitted.startswith("Times are fitted")
