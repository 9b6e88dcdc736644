"""The table of marks (targets): what was measured for each, and whether it is met. From stored results."""

import json
from collections.abc import Callable, Mapping
from functools import reduce
from operator import getitem, itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from bench.engine import price_of_reasoning, times_floor
from bench.machine import RESULTS, ROOT, kept
from bench.peers.rates import best_rates

Results = Mapping[str, Any]
Mark = dict[str, Any]

PEER_MARKS = {"litserve": 1.5, "bentoml": 3.0, "ray_serve": 5.0}
PEER_NAMES = {"litserve": "LitServe", "bentoml": "BentoML", "ray_serve": "Ray Serve"}
CONNECTIONS = (1, 8, 32, 64)
COMMANDS = {
    "engine": "python -m bench.engine --bundle DIR",
    "constraints": "python -m bench.constraints --bundle DIR",
    "serving": "python -m bench.serving --bundle DIR",
    "before": "python -m bench.before",
    "decisions": "python -m bench.decisions --bundle DIR",
    "overload": "python -m bench.overload --bundle DIR",
    "stages": "python -m bench.stages --bundle DIR",
    "memory": "python -m bench.memory --bundle DIR",
    "peers": "make bench-peers",
    "tracing": "python -m bench.tracing BUNDLE",
    "training": "python -m bench.training",
    "bulk": "python -m bench.bulk --bundle DIR",
    "logs": "python -m bench.logs --folder DIR",
    "large_lists": "python -m evidence.large_lists",
}


def stored() -> dict[str, Results]:
    """The stored results, by name."""
    found = {name: kept(name) for name in COMMANDS if name != "large_lists"}
    large_lists = ROOT / "docs/results/large_lists.json"
    if large_lists.exists():
        found["large_lists"] = json.loads(large_lists.read_text())
    return {name: results for name, results in found.items() if results is not None}


class Spec(NamedTuple):
    """A row of the table of marks. `mark` is the upper limit, or with `least` the lower one."""

    source: str
    name: str
    mark: float
    read: Callable[[Results], float]
    least: bool = False


def specs() -> list[Spec]:
    """Every row."""
    engine, long = "engine, N = 50: time over the arithmetic floor", "large-list encoder"
    cpu, memory = "CPU a request without inference, µs", "resident memory"
    return [
        Spec("engine", f"{engine}, batch of 16", 2.5, _floor(16)),
        Spec("engine", f"{engine}, batch of 1", 4.0, _floor(1)),
        Spec(
            "constraints", "engine, N = 50: time with constraints over time without, worst", 1.2, worst_times
        ),
        Spec("large_lists", f"{long}: time at N = 1000 over N = 50", 25.0, _worse_decoding("growth")),
        Spec("large_lists", f"{long}: p50 at N = 1000, ms", 10.0, _worse_decoding("p50_ms", "1000")),
        Spec("large_lists", f"{long}: value lost to full attention, worst N up to 1000, %", 1.0, worst_loss),
        Spec(
            "serving",
            "service, ids only, c = 32: requests/s over the engine's own",
            0.7,
            itemgetter("share_of_engine"),
            True,
        ),
        *(
            Spec("before", f"service over 8683ae8, c = {c}: requests/s", 0.95, _times_before(c), True)
            for c in (1, 8, 32)
        ),
        Spec(
            "decisions",
            "service with a decision log over without, c = 32: requests/s",
            0.95,
            lambda decisions: decisions["rows"][0]["ratio"],
            True,
        ),
        *(
            Spec(
                "peers", f"service over {PEER_NAMES[peer]}, c = {c}: requests/s", mark, _ratio(peer, c), True
            )
            for peer, mark in PEER_MARKS.items()
            for c in CONNECTIONS
        ),
        Spec(
            "serving",
            "service, open loop at 70 % of saturation: p99 / p50",
            4.0,
            itemgetter("p99_over_p50_at_70"),
        ),
        Spec(
            "overload",
            "goodput: answers within 20 ms by the client's clock, 200 connections over 5",
            0.7,
            itemgetter("goodput_ratio"),
            True,
        ),
        Spec("overload", "p50 beside a greedy client over that alone", 2.0, itemgetter("greedy_ratio")),
        Spec(
            "overload",
            "stalls of 50 ms at 70 % of saturation: failed answers",
            0.0,
            itemgetter("stall_failed"),
        ),
        Spec("stages", f"{cpu}: ids only", 150.0, _other_cpu("ids, anonymous")),
        Spec("stages", f"{cpu}: full features", 230.0, _other_cpu("features, anonymous")),
        Spec("memory", f"{memory}, 100,000 requests of random N: growth, %", 5.0, _growth("requests")),
        Spec("memory", f"{memory}, 100 bundle swaps: growth, %", 5.0, _growth("swaps")),
        Spec("engine", "price of reasoning, N = 50: time at S_max = 3 over S_max = 0", 1.4, _price),
    ]


def marks(results: Mapping[str, Results]) -> list[Mark]:
    """Every row with what was measured. A mark that was not measured is not met."""
    made = []
    for spec in specs():
        value = round(float(spec.read(results[spec.source])), 3) if spec.source in results else None
        holds = value is not None and (value >= spec.mark if spec.least else value <= spec.mark)
        bound = "at least" if spec.least else "at most"
        made.append(
            {
                "name": spec.name,
                "value": value,
                "mark": spec.mark,
                "bound": bound,
                "holds": holds,
                "command": COMMANDS[spec.source],
            }
        )
    return made


def fastest(engine: Results) -> str:
    """The variant that the service runs: native decoding if the bundle has it."""
    return "native" if any(row["variant"] == "native" for row in engine["rows"]) else "graph"


def worst_times(constraints: Results) -> float:
    return float(max(row["times"] for row in constraints["rows"].values()))


def _times_before(connections: int) -> Callable[[Results], float]:
    return lambda before: next(r["ratio"] for r in before["rows"] if r["connections"] == connections)


def worst_loss(large_lists: Results) -> float:
    """Largest share of the full encoder's value that the recommended one loses, in percent; 0 if none."""
    rows = {(row["lists_by"], row["n"]): row for row in large_lists["quality"]}
    recommended = large_lists["recommended"]
    losses = [0.0]
    for (name, n), row in rows.items():
        gaps = [gap for key, gap in row.items() if key.startswith("minus_")]
        if name == recommended and n <= 1000:
            losses += [-100 * gap["mean"] / row["true_value"] for gap in gaps]
    return max(losses)


def _worse_decoding(figure: str, *rest: str) -> Callable[[Results], float]:
    """The worse of graph and native, with the recommended encoder."""

    def read(large_lists: Results) -> float:
        recommended = (found[large_lists["recommended"]] for found in large_lists[figure].values())
        return max(reduce(getitem, rest, found) for found in recommended)

    return read


def _floor(batch: int) -> Callable[[Results], float]:
    return lambda found: times_floor(found["rows"], fastest(found), batch)


def _price(engine: Results) -> float:
    """The higher price, of batches of 1 and of 16."""
    return max(price_of_reasoning(engine["rows"], fastest(engine), batch) for batch in (1, 16))


def _ratio(peer: str, connections: int) -> Callable[[Results], float]:
    def ratio(peers: Results) -> float:
        rates = best_rates(peers["rows"], "native")
        return rates["ours"][connections] / rates[peer][connections]

    return ratio


def _other_cpu(case: str) -> Callable[[Results], float]:
    """At c = 1, where nothing is shared with other requests."""

    def read(stages: Results) -> float:
        rows = [row for row in stages["rows"] if (row["case"], row["connections"]) == (case, 1)]
        return float(rows[0]["other_cpu_us"])

    return read


def _growth(run: str) -> Callable[[Results], float]:
    return lambda memory: 100 * memory[run]["growth"]


def write(results: Mapping[str, Results], directory: Path = RESULTS) -> list[Mark]:
    """`marks.json`."""
    made = marks(results)
    (directory / "marks.json").write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    return made
