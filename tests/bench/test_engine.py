"""The engine's benchmark: what it counts, and that its rows hold together. Timings are not judged."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.engine import (
    Case,
    Engine,
    cases,
    draw_requests,
    measure,
    node_counts,
    prepare,
    price_of_reasoning,
    times_floor,
)
from bench.floor import Products, count, floor_us, sgemm_gflops
from bundle.contract import MASKED_LOGIT
from bundle.features.assembly import collate
from bundle.manifest import ENCODER, SLATE, STEP
from engine.generation import Controls, stack_controls

N, D = 24, 16


@pytest.fixture(scope="module")
def engine(bundle: Path) -> Engine:
    return Engine(bundle)


def products(engine: Engine, candidates: int) -> Products:
    requests = draw_requests(engine.model, candidates, 1, 0)
    controls = stack_controls([Controls.default(engine.model.manifest, 5)], [candidates])
    return count(engine.bundle, collate(requests), controls)


def test_a_micro_steps_products_are_counted_by_hand(engine: Engine) -> None:
    found = products(engine, N)
    assert found.score == N * D
    assert found.commit == 2 * D * 3 * D  # the GRU's three gates, of token and state
    recall, token = 2 * N * D, N * D
    assert found.reason == D * D + recall + token + 4 * D * 2 * D + 2 * D * D


def test_the_encoders_products_grow_linearly_in_candidates(engine: Engine) -> None:
    one, two, three = (products(engine, n).encoder for n in (10, 20, 30))
    assert three - two == two - one > 0


def test_a_slate_pays_for_the_steps_it_took(engine: Engine) -> None:
    (request,) = draw_requests(engine.model, N, 1, 0)
    control = replace(Controls.default(engine.model.manifest, 5), entropy_threshold=MASKED_LOGIT)
    (slate,) = engine.model.generate([request], [replace(control, reasoning_budget=2)])
    assert slate.reasoning_tokens == 10
    assert Products(1000, 100, 10, 1).of(slate) == 1000 + 15 * 100 + 5 * 10 + 10
    assert floor_us(Products(10**6, 0, 0, 0), [slate], gflops=100.0) == pytest.approx(20.0)


def test_rows_are_complete_and_comparable(engine: Engine) -> None:
    small = [prepare(engine, Case(batch, 50, s_max)) for batch, s_max in ((1, 0), (1, 3), (16, 3))]
    rows = measure(small, rounds=1)
    assert len(rows) == 3 * len(small[0].calls)
    assert all(row["us_per_request"] > 0 and row["floor_us"] > 0 for row in rows)
    assert next(r["micro_steps"] for r in rows if r["variant"] == "graph") == 10
    (row,) = (r for r in rows if (r["variant"], r["batch"]) == ("graph", 16))
    assert times_floor(rows, "graph", 16) == row["times_floor"]
    assert price_of_reasoning(rows, "step", 1) > 0
    assert sgemm_gflops() > 0


def test_every_mark_has_its_case() -> None:
    found = cases(2)
    assert len(set(found)) == len(found)
    assert {Case(16, 50, 2), Case(1, 50, 2), Case(1, 50, 0), Case(1, 50, 3)} <= set(found)


def test_nodes_are_counted_inside_the_loop_too(bundle: Path) -> None:
    counts = node_counts(bundle)
    assert counts[SLATE]["Loop"] == 1
    assert counts[SLATE]["all"] > counts[ENCODER]["all"]
    assert counts[STEP]["all"] == sum(n for op, n in counts[STEP].items() if op != "all")
