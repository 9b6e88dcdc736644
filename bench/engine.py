"""The engine's microseconds per request, without HTTP: `python -m bench.engine --bundle DIR`.

Variants, on the same requests and one thread: the encoder alone, the slate graph, the host-driven step graph
and, if the bundle supports it, native decoding. Each is called as the service calls it, from the requests'
arrays to their slates, except for the encoder alone, which is one session call. In every round each variant
runs every batch once, and the floor's rate is measured, so that the machine's noise affects all equally. CPU
time of the one thread that does the work is counted. Each batch's best round and the best rate are kept,
because whatever else runs on the machine only slows them down.

Then the cost of padding: lists of mixed lengths in batches as they come, and in batches of similar lengths.

Legend: B requests, N candidates, K slate length, S most reasoning tokens per position.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto
from rich.table import Table

from bench.floor import Products, count, floor_us, sgemm_gflops
from bench.machine import keep
from bundle.arrays import Arrays
from bundle.features.assembly import Candidates, collate
from bundle.features.history import Interaction, UserContext
from bundle.manifest import ENCODER, SLATE, STEP
from bundle.repository import locate
from engine.generation import Controls, Slate, stack_controls
from engine.loaded_model import LoadedModel
from engine.native.runner import decodes_natively
from engine.runner import open_runner
from engine.sessions import open_session
from engine.settings import Decoding, SessionSettings
from model.progress import console, progress

LISTS, ROUNDS, SEED = 32, 9, 0
HISTORY = 50
"""Events of every user."""

MIXED_LISTS, MIXED_BATCH, MIXED_LENGTHS = 64, 16, (10, 200)
"""For the cost of padding: lists of a uniform length between the two."""

Row = dict[str, Any]
Call = Callable[[], object]


class Case(NamedTuple):
    """One size of the work; `s_max` is the reasoning budget of every request."""

    batch: int
    candidates: int
    s_max: int


def cases(s_max: int) -> list[Case]:
    """B at N = 50, then N and S at B = 1 and 16. `s_max` is the bundle's own budget."""
    by_batch = [Case(batch, 50, s_max) for batch in (1, 4, 8, 16, 32)]
    by_size = [Case(batch, n, s_max) for n in (24, 100, 200) for batch in (1, 16)]
    by_budget = [Case(batch, 50, s) for s in (0, 1, 2, 3) for batch in (1, 16)]
    return list(dict.fromkeys([*by_batch, *by_size, *by_budget]))


class Engine:
    """A bundle opened in every way it can be run."""

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        settings = SessionSettings()
        model = LoadedModel.open(bundle, settings)
        ways: list[Decoding] = ["graph", "step"]
        if decodes_natively(model.manifest):
            ways.append("native")
        self.encoder = open_session(bundle / ENCODER, settings)
        self.models = {
            way: replace(
                model,
                runner=open_runner(bundle, model.manifest, model.features, replace(settings, decoding=way)),
            )
            for way in ways
        }

    @property
    def model(self) -> LoadedModel:
        return self.models["graph"]


class Prepared(NamedTuple):
    """A case's requests, what each variant has to call to run each of its batches, and what they multiply."""

    case: Case
    calls: dict[str, list[Call]]
    slates: list[Slate]
    products: Products


def prepare(engine: Engine, case: Case, seed: int = SEED) -> Prepared:
    """Draw the requests of a case, and run every variant once."""
    model = engine.model
    requests = draw_requests(model, case.candidates, LISTS, seed)
    length = min(model.manifest.slate_length, case.candidates)
    without = replace(Controls.default(model.manifest, length), reasoning_budget=0)
    threshold = calibrated(model, requests, without)
    control = replace(without, reasoning_budget=case.s_max, entropy_threshold=threshold)
    batches = [list(batch) for batch in _batches(requests, case.batch)]
    fed = [collate(batch) for batch in batches]

    calls: dict[str, list[Call]] = {"encoder": [partial(engine.encoder.run, None, inputs) for inputs in fed]}
    for name, way in engine.models.items():
        calls[name] = [partial(way.generate, batch, [control] * len(batch)) for batch in batches]
    for of_variant in calls.values():
        for call in of_variant:
            call()
    products = count(
        engine.bundle,
        collate(requests[:1]),
        stack_controls([control], [len(requests[0]["candidate_numeric"])]),
    )
    slates = [slate for batch in batches for slate in model.generate(batch, [control] * len(batch))]
    return Prepared(case, calls, slates, products)


def calibrated(model: LoadedModel, requests: Sequence[Arrays], without: Controls) -> float:
    """The threshold at which these lists reason as often as those the bundle was calibrated on: random
    candidates are harder to tell apart."""
    slates = [model.generate([request], [without])[0] for request in requests]
    met = [position.uncertainty for slate in slates for position in slate.positions]
    return float(np.quantile(met, model.manifest.gate.quantile))


def run_each(calls: Sequence[Call], best: NDArray[np.float64]) -> None:
    """Call each once, and lower `best` (seconds, `[calls]`) where it was faster than before."""
    for index, call in enumerate(calls):
        started = thread_time()
        call()
        best[index] = min(best[index], thread_time() - started)


def measure(prepared: Sequence[Prepared], rounds: int = ROUNDS) -> list[Row]:
    """One row for each case and variant."""
    best = {
        (one.case, name): np.full(len(calls), np.inf) for one in prepared for name, calls in one.calls.items()
    }
    gflops = 0.0
    for _ in progress(range(rounds), "engine"):
        gflops = max(gflops, sgemm_gflops())
        for one in prepared:
            for name, calls in one.calls.items():
                run_each(calls, best[one.case, name])
    rows = []
    for case, all_calls, slates, products in prepared:
        floor = floor_us(products, slates, gflops)
        for name in all_calls:
            us = 1e6 * float(best[case, name].sum()) / LISTS
            rows.append(
                {
                    "variant": name,
                    **case._asdict(),
                    "micro_steps": float(np.mean([slate.micro_steps for slate in slates])),
                    "us_per_request": round(us, 1),
                    "floor_us": round(floor, 1),
                    "times_floor": round(us / floor, 2),
                    "sgemm_gflops": round(gflops, 1),
                }
            )
    return rows


def measure_padding(engine: Engine, rounds: int = ROUNDS) -> list[Row]:
    """Microseconds per request of mixed lists, by variant: in batches as they come, and sorted by length
    first, which is the best that length buckets could achieve."""
    model = engine.model
    lengths = np.random.default_rng(SEED).integers(*MIXED_LENGTHS, MIXED_LISTS, endpoint=True)
    mixed = [draw_requests(model, int(n), 1, seed)[0] for seed, n in enumerate(lengths)]
    alike = sorted(mixed, key=lambda request: len(request["candidate_numeric"]))
    control = Controls.default(model.manifest, min(model.manifest.slate_length, MIXED_LENGTHS[0]))
    calls = {
        (name, order): [
            partial(way.generate, batch, [control] * len(batch)) for batch in _batches(requests, MIXED_BATCH)
        ]
        for order, requests in (("as they come", mixed), ("of like lengths", alike))
        for name, way in engine.models.items()
    }
    best = {key: np.full(len(of_key), np.inf) for key, of_key in calls.items()}
    for _ in progress(range(rounds), "padding"):
        for key, of_key in calls.items():
            run_each(of_key, best[key])
    return [
        {"variant": name, "batches": order, "us_per_request": round(1e6 * times.sum() / MIXED_LISTS, 1)}
        for (name, order), times in best.items()
    ]


def times_floor(rows: Iterable[Row], variant: str, batch: int, candidates: int = 50) -> float:
    """Of the row with the largest reasoning budget, for this variant and size."""
    found = [
        row
        for row in rows
        if (row["variant"], row["batch"], row["candidates"]) == (variant, batch, candidates)
    ]
    return float(max(found, key=lambda row: int(row["s_max"]))["times_floor"])


def price_of_reasoning(rows: Iterable[Row], variant: str, batch: int, s_max: int = 3) -> float:
    """Time at S_max over time at S_max = 0, N = 50."""
    us = {
        row["s_max"]: row["us_per_request"]
        for row in rows
        if (row["variant"], row["batch"], row["candidates"]) == (variant, batch, 50)
    }
    return float(us[s_max] / us[0])


def draw_requests(model: LoadedModel, candidates: int, count: int, seed: int) -> list[Arrays]:
    """Inputs of random candidates of the catalogue and of users who saw `HISTORY` items."""
    rng, features = np.random.default_rng(seed), model.features
    ids = np.array(features.catalogue.ids)
    liked = features.schema.positive_types[0]
    requests = []
    for _ in range(count):
        chosen = [str(i) for i in rng.choice(ids, candidates, replace=len(ids) < candidates)]
        events = zip(rng.choice(ids, HISTORY, replace=len(ids) < HISTORY), rng.random(HISTORY), strict=True)
        history = tuple(Interaction(str(i), liked if u < 0.3 else "impression") for i, u in events)
        requests.append(features.request(Candidates(chosen), UserContext(history=history), {}, 1.7e9))
    return requests


def node_counts(bundle: Path) -> dict[str, dict[str, int]]:
    """Nodes of each of the bundle's graphs by operator, subgraphs included."""
    found = {}
    for name in (ENCODER, STEP, SLATE):
        counts = Counter(node.op_type for node in _nodes(onnx.load(bundle / name).graph))
        found[name] = {"all": counts.total(), **dict(counts.most_common())}
    return found


def _nodes(graph: GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _batches(requests: Sequence[dict[str, NDArray[Any]]], size: int) -> Iterator[Sequence[Arrays]]:
    for start in range(0, len(requests), size):
        yield requests[start : start + size]


def show(rows: Sequence[Row]) -> None:
    """Print the rows as a table."""
    table = Table(title="microseconds a request (times the floor)")
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    for column in ("B", "N", "S_max", "micro-steps", "floor", *variants):
        table.add_column(column, justify="right")
    for case in dict.fromkeys(Case(row["batch"], row["candidates"], row["s_max"]) for row in rows):
        of_case = {row["variant"]: row for row in rows if all(row[k] == v for k, v in case._asdict().items())}
        first = next(iter(of_case.values()))
        table.add_row(
            *(str(part) for part in case),
            f"{first['micro_steps']:.1f}",
            f"{first['floor_us']:.0f}",
            *(f"{of_case[v]['us_per_request']:.0f} ({of_case[v]['times_floor']:.1f})" for v in variants),
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    bundle = locate(arguments.bundle)
    engine = Engine(bundle)
    budget = engine.model.manifest.reasoning_budget
    rows = measure([prepare(engine, case) for case in progress(cases(budget), "cases")], arguments.rounds)
    show(rows)
    padding = measure_padding(engine, arguments.rounds)
    results = {"nodes": node_counts(bundle), "rows": rows, "padding": padding}
    command = "python -m bench.engine --bundle DIR"
    path = keep("engine", results, "onnxruntime", "numpy", command=command)
    console.print(f"{path}, at {rows[0]['sgemm_gflops']} GFLOP/s of one large product")


if __name__ == "__main__":
    main()
