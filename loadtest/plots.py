"""Two pictures of a run from its summary: latency over time, and latency against rate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot

PERCENTILES = {"p50_ms": "#4477aa", "p90_ms": "#ccbb44", "p99_ms": "#ee6677"}


def draw(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Write `latency-over-time.png` and `latency-against-rate.png`; returns their paths."""
    paths = [folder / "latency-over-time.png", folder / "latency-against-rate.png"]
    over_time(summary, paths[0])
    against_rate(summary, paths[1])
    return paths


def over_time(summary: dict[str, Any], path: Path) -> None:
    """Percentiles and rate of each second."""
    seconds = [second for second in summary["seconds"] if second["reranks"]]
    times, rates = [s["at_s"] for s in seconds], [s["reranks_per_s"] for s in seconds]
    figure, (above, below) = pyplot.subplots(
        2, sharex=True, figsize=(8, 5), height_ratios=(3, 1), layout="constrained"
    )
    _percentiles(above, times, seconds, summary)
    below.step(times, rates, where="post", color="#555555")
    below.set(ylabel="reranks/s", xlabel="seconds since the start")
    below.set_ylim(bottom=0)
    below.grid(alpha=0.3)
    _save(figure, path)


def against_rate(summary: dict[str, Any], path: Path) -> None:
    """Percentiles of each level by its rate: the offered one, or in a closed loop the one reached."""
    rate = "reranks_per_s" if summary["user_rate"] is None else "offered_per_s"
    levels = sorted((level for level in summary["levels"] if level["reranks"]), key=lambda level: level[rate])
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    _percentiles(axes, [level[rate] for level in levels], levels, summary, marker="o")
    axes.set_xlabel(f"reranks/s{'' if summary['user_rate'] is None else ' offered'}, mean of a level")
    axes.set_xlim(left=0)
    _save(figure, path)


def title(summary: dict[str, Any]) -> str:
    loop = "closed loop" if summary["arrivals"] == "ClosedLoop" else "open loop"
    return (
        f"{loop}, {summary['shape']}, {summary['reranks']} reranks in {summary['run_time_s']:.0f} s\n"
        f"service and load on {summary['hardware']}"
    )


def _percentiles(
    axes: Any, x: Sequence[float], rows: Sequence[dict[str, Any]], summary: dict[str, Any], **style: Any
) -> None:
    for name, color in PERCENTILES.items():
        axes.plot(x, [row[name] for row in rows], label=name.removesuffix("_ms"), color=color, **style)
    objective_ms = summary["objectives"]["p99_ms"]
    axes.axhline(objective_ms, color="black", linestyle=":", linewidth=1, label="objective of p99")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(title(summary), fontsize=10)
    axes.set_ylabel("latency in ms")
    axes.grid(alpha=0.3, which="both")
    axes.legend(ncols=4, fontsize=9)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
