"""Pictures of panels, drawn by matplotlib from what a live Prometheus answers to their own queries.

    python -m deploy.prometheus.local --target 127.0.0.1:8080 --interval-s 1 &
    python -m loadtest ...
    python -m deploy.grafana.pictures --prometheus http://127.0.0.1:9090 --minutes 2 --to docs/images

Grafana is not involved: the same panels, titles, queries and series names, drawn by something else.
"""

import argparse
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import httpx
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from deploy.grafana.generate import DASHBOARDS
from deploy.grafana.panels import colour
from deploy.grafana.promql import everything

PICTURES = {
    "monitoring-glance": [
        ("service", "Firing alerts"),
        ("service", "Firing for"),
        ("service", "Instances"),
        ("service", "Reranks failed"),
        ("service", "Availability budget"),
        ("service", "Reranks over 50 ms"),
        ("service", "Latency budget"),
        ("service", "Context store"),
        ("service", "Alerts"),
        ("service", "Failed, slow, fallbacks"),
        ("service", "CPU"),
        ("service", "Event loop lag"),
    ],
    "monitoring-service": [
        ("service", "Rate"),
        ("service", "Duration of a rerank"),
        ("service", "Time by stage"),
        ("service", "Batch size"),
        ("service", "Queue"),
        ("service", "Fallbacks by reason"),
    ],
    "monitoring-reasoning": [
        ("reasoning", "Entropy by position, before reasoning"),
        ("reasoning", "Entropy by position, after reasoning"),
        ("reasoning", "Entropies before reasoning"),
        ("reasoning", "Entropies after reasoning"),
        ("reasoning", "Why reasoning stopped"),
        ("reasoning", "Drift"),
    ],
    "monitoring-models": [
        ("models", "Look-ups"),
        ("models", "Time of a look-up"),
        ("models", "Cold users"),
    ],
}
STEP_S = 2
RATE_INTERVAL = "20s"
UNITS = {
    "bytes": "bytes",
    "s": "seconds",
    "reqps": "requests / s",
    "cps": "events / s",
    "percentunit": "ratio",
    "short": "",
}
COLUMNS = {"monitoring-glance": 4}

Series = tuple[str, list[float], list[float]]
"""Name, seconds since the picture begins, values."""


def panel_of(dashboard: str, title: str) -> dict[str, Any]:
    panels = json.loads((DASHBOARDS / f"{dashboard}.json").read_text())["panels"]
    return next(panel for panel in panels if panel["title"] == title and panel["type"] != "row")


def answers(address: str, target: dict[str, Any], start: float, end: float) -> list[Series]:
    """Series of a panel's target, named as the panel names them."""
    parameters: dict[str, Any] = {"query": everything(target["expr"], RATE_INTERVAL)}
    if target.get("instant"):
        parameters |= {"time": end}
        answer = httpx.get(f"{address}/api/v1/query", params=parameters, timeout=60).raise_for_status()
        result = [{**one, "values": [one["value"]]} for one in answer.json()["data"]["result"]]
    else:
        parameters |= {"start": start, "end": end, "step": STEP_S}
        answer = httpx.get(f"{address}/api/v1/query_range", params=parameters, timeout=60).raise_for_status()
        result = answer.json()["data"]["result"]
    found = []
    for series in result:
        name = target["legendFormat"]
        for label in re.findall(r"\{\{(\w+)\}\}", name):
            name = name.replace(f"{{{{{label}}}}}", series["metric"].get(label, ""))
        times = [float(at) - start for at, _ in series["values"]]
        found.append((name, times, [float(value) for _, value in series["values"]]))
    return found


def draw(axes: Axes, panel: dict[str, Any], found: list[list[Series]]) -> None:
    """`found` is one list of series a target."""
    axes.set_title(panel["title"], fontsize=10)
    kind, options = panel["type"], panel["options"]
    if kind == "stat":
        _stat(axes, panel, found)
        return
    series = [one for target in found for one in target]
    if kind == "heatmap":
        cumulative = panel["targets"][0].get("format") == "heatmap"
        unit = options["yAxis"]["unit"] if cumulative else options["cellValues"]["unit"]
        _heatmap(axes, series, cumulative)
        axes.set_ylabel(UNITS[unit] or ("bucket, at most" if cumulative else "position"))
        return
    if kind == "state-timeline":
        _states(axes, series)
        return
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_ylabel(UNITS[unit])
    if panel["fieldConfig"]["defaults"]["custom"].get("stacking"):
        grid = sorted({at for _, times, _ in series for at in times})
        columns = [dict(zip(times, values, strict=True)) for _, times, values in series]
        heights = [[_or_zero(column.get(at, 0.0)) for at in grid] for column in columns]
        axes.stackplot(grid, heights, labels=[name for name, _, _ in series], alpha=0.7)
    else:
        for name, times, values in series:
            axes.plot(times, values, label=name, linewidth=1.2)
    for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])[1:]:
        axes.axhline(step["value"], color="red", linewidth=0.8, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, loc="upper left")


def _stat(axes: Axes, panel: dict[str, Any], found: list[list[Series]]) -> None:
    """Each target's number on its colour, side by side."""
    defaults = panel["fieldConfig"]["defaults"]
    words = {value: one["text"] for m in defaults.get("mappings", ()) for value, one in m["options"].items()}
    for place, series in enumerate(found):
        value = series[0][2][-1] if series else None
        text = (
            defaults["noValue"] if value is None else words.get(f"{value:g}", _said(value, defaults["unit"]))
        )
        name = panel["targets"][place]["legendFormat"]
        if len(found) > 1:
            text = f"{name} {text}"
        shade = colour(panel, place, value)
        shade = {"text": "lightgrey", "green": "#73bf69", "red": "#f2495c", "orange": "#ff9830"}[shade]
        axes.axvspan(place, place + 1, color=shade)
        axes.text(place + 0.5, 0.5, text, ha="center", va="center", fontsize=14)
    axes.set(xlim=(0, len(found)), ylim=(0, 1), xticks=[], yticks=[])


def _said(value: float, unit: str) -> str:
    return f"{100 * value:.3g} %" if unit == "percentunit" else f"{value:.3g}{' s' if unit == 's' else ''}"


def _states(axes: Axes, series: list[Series]) -> None:
    """A bar wherever a series is there."""
    for row, (_, times, _) in enumerate(series):
        axes.broken_barh([(at, STEP_S) for at in times], (row - 0.4, 0.8), color="#f2495c")
    axes.set_yticks(range(len(series)), [name for name, _, _ in series], fontsize=7)


def _heatmap(axes: Axes, series: list[Series], cumulative: bool) -> None:
    """One row per series; cumulative buckets are first turned into separate ones."""
    rows = sorted(series, key=lambda one: float(one[0].replace("+Inf", "inf").rstrip("+")))
    grid = sorted({at for _, times, _ in rows for at in times})
    table = [
        [dict(zip(times, values, strict=True)).get(at, math.nan) for at in grid] for _, times, values in rows
    ]
    if cumulative:
        below = [[0.0] * len(grid), *table[:-1]]
        table = [
            [a - b for a, b in zip(row, less, strict=True)] for row, less in zip(table, below, strict=True)
        ]
    image = axes.imshow(
        table,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(grid[0], grid[-1], -0.5, len(rows) - 0.5),
    )
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=7)
    axes.figure.colorbar(image, ax=axes)


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def picture(address: str, panels: list[tuple[str, str]], start: float, end: float, path: Path) -> None:
    columns = COLUMNS.get(path.stem, 3)
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(15, 3.4 * rows), squeeze=False)
    for axes, (dashboard, title) in zip(grid.flat, panels, strict=False):
        panel = panel_of(dashboard, title)
        draw(axes, panel, [answers(address, target, start, end) for target in panel["targets"]])
        if panel["type"] != "stat":
            axes.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.pictures")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=2.0, help="how far to look back from now")
    parser.add_argument("--to", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    end = time.time()
    for name, panels in PICTURES.items():
        picture(arguments.prometheus, panels, end - 60 * arguments.minutes, end, arguments.to / f"{name}.png")


if __name__ == "__main__":
    main()
