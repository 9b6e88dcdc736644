"""Grafana's JSON for the few kinds of panels the dashboards use, as plain dictionaries.

Knows nothing of what is shown. Written for Grafana 10 and later.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
PANEL_TYPES = ("row", "stat", "timeseries", "heatmap", "bargauge")
WIDTH, HEIGHT = 24, 8
Panel = dict[str, Any]


class Query(NamedTuple):
    """A PromQL expression and what its series are called: Grafana's template of labels."""

    expr: str
    legend: str = ""


class Variable(NamedTuple):
    """What is chosen at the top of a dashboard: values of the label of this name.

    Attributes:
        source: series whose values there are.
    """

    name: str
    source: str


def timeseries(
    title: str,
    text: str,
    *queries: Query,
    unit: str = "short",
    stacked: bool = False,
    limits: Sequence[float] = (),
) -> Panel:
    """Lines over time. `limits` are drawn as red lines."""
    custom: dict[str, Any] = {"fillOpacity": 30 if stacked else 0, "showPoints": "never"}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    defaults: dict[str, Any] = {"unit": unit, "min": 0, "custom": custom}
    if limits:
        custom["thresholdsStyle"] = {"mode": "line"}
        steps = [{"color": "transparent", "value": None}, *({"color": "red", "value": v} for v in limits)]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel("timeseries", title, text, queries, defaults, options)


def stat(title: str, text: str, query: Query, unit: str = "short", limit: float | None = None) -> Panel:
    """One number, red from `limit` on."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if limit is not None:
        steps.append({"color": "red", "value": limit})
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}}
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "auto",
    }
    return _panel("stat", title, text, [query], defaults, options)


def bars(title: str, text: str, query: Query, unit: str = "short") -> Panel:
    """The newest value of each series, side by side."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "vertical",
        "displayMode": "basic",
        "showUnfilled": False,
    }
    return _panel("bargauge", title, text, [query], {"unit": unit, "min": 0}, options)


def histogram(title: str, text: str, query: Query, unit: str = "short") -> Panel:
    """A histogram over time: `query` gives the increase of each bucket, by `le`."""
    panel = _heatmap(title, text, query, unit)
    panel["targets"][0]["format"] = "heatmap"
    return panel


def by_row(title: str, text: str, query: Query, unit: str = "short") -> Panel:
    """One row per series, its value as the colour; `query.legend` must give a number, the row's place."""
    panel = _heatmap(title, text, query, "short")
    panel["options"]["cellValues"] = {"unit": unit}
    panel["options"]["rowsFrame"] = {"layout": "auto"}
    return panel


def dashboard(
    uid: str, title: str, text: str, rows: dict[str, Sequence[Panel]], variables: Sequence[Variable]
) -> dict[str, Any]:
    """A dashboard of named rows; the panels of a row share its width."""
    panels: list[Panel] = []
    top = 0
    for name, members in rows.items():
        panels.append(
            _place({"type": "row", "title": name, "collapsed": False, "panels": []}, top, 0, WIDTH, 1)
        )
        height = 4 if all(panel["type"] == "stat" for panel in members) else HEIGHT
        width = WIDTH // len(members)
        panels += [_place(panel, top + 1, i * width, width, height) for i, panel in enumerate(members)]
        top += 1 + height
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return {
        "uid": uid,
        "title": title,
        "description": text,
        "tags": ["rerank"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_variable(variable) for variable in variables]},
        "annotations": {"list": []},
        "links": [_to_the_others()],
        "panels": panels,
    }


def _panel(
    kind: str,
    title: str,
    text: str,
    queries: Sequence[Query],
    defaults: dict[str, Any],
    options: dict[str, Any],
) -> Panel:
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "range": True,
        }
        for number, query in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def _heatmap(title: str, text: str, query: Query, unit: str) -> Panel:
    options = {
        "calculate": False,
        "color": {"mode": "scheme", "scheme": "Viridis", "steps": 64},
        "yAxis": {"unit": unit, "axisPlacement": "left"},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False},
    }
    return _panel("heatmap", title, text, [query], {}, options)


def _place(panel: Panel, y: int, x: int, w: int, h: int) -> Panel:
    return {**panel, "gridPos": {"x": x, "y": y, "w": w, "h": h}}


def _variable(variable: Variable) -> dict[str, Any]:
    query = f"label_values({variable.source}, {variable.name})"
    return {
        "name": variable.name,
        "label": variable.name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": variable.name},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _to_the_others() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "Re-ranker",
        "tags": ["rerank"],
        "asDropdown": True,
        "keepTime": True,
    }
