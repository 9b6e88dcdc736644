"""Grafana's JSON for the few kinds of panels the dashboards use, as plain dictionaries.

Knows nothing of what is shown. Written for Grafana 10 and later.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
PANEL_TYPES = ("row", "stat", "timeseries", "heatmap", "bargauge", "state-timeline")
RUNBOOK = "http://127.0.0.1:9090/user/runbook.md"
"""Where Compose's Prometheus serves it; `generate` puts another address in its place."""

NOTHING = "text"
"""The colour of what has no value: neither good nor bad."""
LOWEST = -1e9
GOOD = ((LOWEST, "green"),)
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
    lowest: float = 0,
) -> Panel:
    """Lines over time. `limits` are drawn as red lines; `lowest` is where the axis begins."""
    custom: dict[str, Any] = {"fillOpacity": 30 if stacked else 0, "showPoints": "never"}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    defaults: dict[str, Any] = {"unit": unit, "min": lowest, "custom": custom}
    if limits:
        custom["thresholdsStyle"] = {"mode": "line"}
        steps = _steps("transparent", [(value, "red") for value in limits])
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel("timeseries", title, text, queries, defaults, options)


Steps = Sequence[tuple[float, str]]
"""From which value on which colour."""


def up_to(limit: float) -> Steps:
    """Red from there on."""
    return (*GOOD, (limit, "red"))


def at_least(limit: float) -> Steps:
    """Red below."""
    return ((LOWEST, "red"), (limit, "green"))


def stat(
    title: str,
    text: str,
    *queries: Query,
    unit: str = "short",
    steps: Sequence[Steps] = (GOOD,),
    nothing: str = "no data",
    says: Mapping[int, str] | None = None,
) -> Panel:
    """The numbers of now; what has none now does not show the last it had.

    Args:
        steps: of each query, or of all.
        nothing: said where there is no value.
        says: words for some values.
    """
    own = [{"mode": "absolute", "steps": _steps(NOTHING, one)} for one in steps]
    defaults: dict[str, Any] = {"unit": unit, "thresholds": own[0], "noValue": nothing}
    if says is not None:
        words = {str(value): {"text": word, "index": value} for value, word in says.items()}
        defaults["mappings"] = [{"type": "value", "options": words}]
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "none",
        "textMode": "auto",
    }
    panel = _panel("stat", title, text, queries, defaults, options)
    for target in panel["targets"]:
        target |= {"range": False, "instant": True}
    panel["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byFrameRefID", "options": target["refId"]},
            "properties": [{"id": "thresholds", "value": thresholds}],
        }
        for target, thresholds in list(zip(panel["targets"], own, strict=False))[1:]
    ]
    return panel


def colour(panel: Panel, target: int, value: float | None) -> str:
    """What Grafana shows the value of one of a stat's targets in; None is no value."""
    thresholds = panel["fieldConfig"]["defaults"]["thresholds"]
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == panel["targets"][target]["refId"]:
            thresholds = override["properties"][0]["value"]
    reached = [step for step in thresholds["steps"] if step["value"] is None]
    reached += [step for step in thresholds["steps"][1:] if value is not None and value >= step["value"]]
    return str(reached[-1]["color"])


def states(title: str, text: str, query: Query) -> Panel:
    """A bar for each series, for as long as it is there."""
    defaults = {
        "custom": {"fillOpacity": 80, "lineWidth": 0},
        "thresholds": {"mode": "absolute", "steps": _steps(NOTHING, ((LOWEST, "red"),))},
        "color": {"mode": "thresholds"},
    }
    options = {"showValue": "never", "mergeValues": True, "rowHeight": 0.9, "alignValue": "left"}
    return _panel("state-timeline", title, text, [query], defaults, options)


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
    uid: str,
    title: str,
    text: str,
    rows: dict[str, Sequence[Panel]],
    variables: Sequence[Variable],
    moments: Sequence[tuple[str, Query, str]],
) -> dict[str, Any]:
    """A dashboard of named rows; the panels of a row share its width.

    Args:
        moments: drawn into all panels: a name, a query whose values are unix seconds, and a colour.
    """
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
        "templating": {"list": [_datasource(), *map(_variable, variables), _runbook()]},
        "annotations": {"list": [_moments(*one) for one in moments]},
        "links": [_to_the_others(), _to_the_runbook()],
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


def _steps(base: str, steps: Steps) -> list[dict[str, Any]]:
    return [{"color": base, "value": None}, *({"color": color, "value": value} for value, color in steps)]


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "refresh": 1,
    }


def _runbook() -> dict[str, Any]:
    return {"name": "runbook", "type": "constant", "query": RUNBOOK, "current": {"value": RUNBOOK}, "hide": 2}


def _moments(name: str, query: Query, color: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": color,
        "expr": f"1000 * {query.expr}",
        "step": "15s",
        "titleFormat": query.legend,
        "useValueForTime": True,
    }


def _to_the_runbook() -> dict[str, Any]:
    return {"type": "link", "title": "Runbook", "icon": "doc", "url": "${runbook}", "targetBlank": True}


def _to_the_others() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "Re-ranker",
        "tags": ["rerank"],
        "asDropdown": True,
        "keepTime": True,
    }
