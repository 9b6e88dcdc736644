"""The dashboards as files: what is committed is what the generator writes, and only what Grafana knows."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import generate
from deploy.grafana.generate import DASHBOARDS, dashboards
from deploy.grafana.panels import PANEL_TYPES, RUNBOOK, colour
from deploy.prometheus.local import FOLDER

MADE = {name: json.loads(text) for name, text in dashboards().items()}
PROVISIONING = DASHBOARDS.parent / "provisioning"


def panels() -> list[Any]:
    return [
        pytest.param(panel, id=f"{name}:{panel['title']}")
        for name, dashboard in MADE.items()
        for panel in dashboard["panels"]
    ]


def test_the_committed_files_are_the_generators() -> None:
    assert {path.name: path.read_text() for path in DASHBOARDS.iterdir()} == dashboards()


@pytest.mark.parametrize("panel", panels())
def test_a_panel_is_one_grafana_has(panel: dict[str, Any]) -> None:
    assert panel["type"] in PANEL_TYPES
    assert panel["title"]
    if panel["type"] == "row":
        return
    assert panel["description"], "whoever is on call reads what it means"
    assert panel["datasource"] == {"type": datasource()["type"], "uid": "${datasource}"}
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert set(panel) <= {
        *("id", "type", "title", "description", "gridPos"),
        *("datasource", "targets", "fieldConfig", "options"),
    }


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("service.json", ["job", "instance"]),
        ("reasoning.json", ["job", "instance", "model", "version"]),
        ("models.json", ["job", "instance", "model", "version"]),
    ],
)
def test_what_is_chosen_above_is_what_queries_ask_for(name: str, variables: list[str]) -> None:
    dashboard = MADE[name]
    listed = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert listed == ["datasource", *variables, "runbook"]
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked = {variable for expr in expressions for variable in re.findall(r"\$(\w+)", expr)}
    assert asked == {*variables, "__rate_interval"}
    for expr in expressions:
        assert ("$model" in expr) == ("$version" in expr)
        assert "$job" in expr, "two re-rankers may have one Prometheus"


@pytest.mark.parametrize("name", sorted(MADE))
def test_panels_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in MADE[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in MADE[name]["panels"]]
    assert len(set(ids)) == len(ids)


def test_dashboards_are_told_apart() -> None:
    assert len({dashboard["uid"] for dashboard in MADE.values()}) == len(MADE)
    assert len({dashboard["title"] for dashboard in MADE.values()}) == len(MADE)


def test_starts_models_and_the_runbook_are_at_hand_everywhere() -> None:
    for dashboard in MADE.values():
        assert [one["name"] for one in dashboard["annotations"]["list"]] == ["Starts", "Models"]
        runbook = dashboard["templating"]["list"][-1]["query"]
        prometheus = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        assert runbook == prometheus["global"]["external_labels"]["runbook"]
        assert "${runbook}" in [link.get("url") for link in dashboard["links"]]


def test_the_runbooks_address_is_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "DASHBOARDS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate", "--runbook", "https://wiki.example.com/rerank"])
    generate.main()
    for path in tmp_path.iterdir():
        assert "https://wiki.example.com/rerank" in path.read_text()
        assert RUNBOOK not in path.read_text()


def test_a_number_that_is_not_there_is_neither_good_nor_bad() -> None:
    stats = [panel for made in MADE.values() for panel in made["panels"] if panel["type"] == "stat"]
    for panel in stats:
        for number, target in enumerate(panel["targets"]):
            assert target["instant"], "not the last number there was"
            assert not target["range"]
            assert colour(panel, number, None) == "text"
        assert panel["fieldConfig"]["defaults"]["noValue"]


def datasource() -> dict[str, Any]:
    file = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())
    (source,) = file["datasources"]
    return dict(source)
