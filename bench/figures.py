"""Stored results as figures: docs/images/performance-*.png."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.marks import PEER_NAMES, Results
from bench.peers.rates import best_rates


def draw(results: Mapping[str, Results], directory: Path) -> None:
    """A figure for each result that has one."""
    for source, name, make in (
        ("serving", "open-loop", open_loop),
        ("peers", "peers", peers),
        ("memory", "memory", memory),
    ):
        if source in results:
            figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
            make(axes, results[source])
            figure.savefig(directory / f"performance-{name}.png", dpi=120)
            plt.close(figure)


def open_loop(axes: Axes, serving: Results) -> None:
    rows = serving["open"]
    rates = [row["offered_per_second"] for row in rows]
    for quantile in ("p50", "p90", "p99"):
        axes.plot(rates, [row[f"{quantile}_ms"] for row in rows], marker="o", label=quantile)
    axes.axvline(serving["saturation_per_second"], color="grey", linestyle=":", label="closed loop's most")
    axes.set(xlabel="offered requests/s, Poisson", ylabel="ms since due", yscale="log", title="Open loop")
    axes.legend()


def peers(axes: Axes, found: Results) -> None:
    rates = best_rates(found["rows"], "native")
    on_graph = best_rates(found["rows"], "graph")
    connections = sorted(rates["ours"])
    width = 0.8 / len(rates)
    for place, (server, of_server) in enumerate(rates.items()):
        at = [index + (place - (len(rates) - 1) / 2) * width for index in range(len(connections))]
        label = PEER_NAMES.get(server, "this service")
        bars = axes.bar(at, [of_server[c] for c in connections], width, label=label)
        if server != "ours":
            color = bars.patches[0].get_facecolor()
            graph = [on_graph[server][c] for c in connections]
            axes.bar(at, graph, width, color="white", edgecolor=color, hatch="///")
    axes.set_xticks(range(len(connections)), [f"c = {c}" for c in connections])
    axes.set(ylabel="requests/s on one core", title="Same model and payload; hatched: on ONNX Runtime")
    axes.legend()


def memory(axes: Axes, found: Results) -> None:
    for name, run, unit in (("requests", found["requests"], "requests"), ("swaps", found["swaps"], "swaps")):
        resident = run["resident_mib"]
        share = [100 * (place + 1) / len(resident) for place in range(len(resident))]
        axes.plot(share, resident, label=f"{run[unit]:,} {name}")
    axes.set(xlabel="% of the run", ylabel="resident MiB", ylim=(0, None), title="Resident memory")
    axes.legend()
