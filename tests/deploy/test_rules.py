"""Prometheus's rules: valid, unit-tested both ways, and each alert in the runbook."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.generate import dashboards
from deploy.prometheus.local import FOLDER, binary, get

ROOT = FOLDER.parents[1]
RUNBOOK = ROOT / "docs/runbook.md"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "rules/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = [alert["alert"] for alert in ALERTS]
TESTS = sorted((FOLDER / "tests").glob("*.yml"))


def promtool(*arguments: str) -> str:
    get()
    run = subprocess.run([binary("promtool"), *arguments], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_configuration_is_valid() -> None:
    said = promtool("check", "config", str(FOLDER / "prometheus.yml"))
    assert "2 rule files found" in said
    assert f"{len(ALERTS)} rules found" in said


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_do_as_their_unit_tests_say(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(path))


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_is_tested_to_fire_and_then_to_clear(name: str) -> None:
    def minutes(text: str) -> float:
        units = {"h": 60.0, "m": 1.0, "s": 1 / 60}
        return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text))

    both = 0
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            checks = [check for check in test["alert_rule_test"] if check["alertname"] == name]
            fires = [minutes(check["eval_time"]) for check in checks if check["exp_alerts"]]
            clear = [minutes(check["eval_time"]) for check in checks if not check["exp_alerts"]]
            both += bool(fires and clear and max(clear) > max(fires))
    assert both


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_says_how_urgent_it_is_and_where_help_is(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert page == "{{ $externalLabels.runbook }}"
    sections = re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)
    (section,) = (text for text in sections if text.partition("\n")[0].strip().lower() == anchor)
    assert anchor == alert["alert"].lower()
    assert "**Look at**" in section
    assert "**Do**" in section
    dashboard, _, _ = alert["annotations"]["dashboard_url"].partition("?")
    made = {json.loads(text)["uid"] for text in dashboards().values()}
    assert dashboard.removeprefix("{{ $externalLabels.grafana }}/d/") in made


def test_the_runbook_is_about_alerts_there_are() -> None:
    headings = re.findall(r"^## (Rerank\w+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    assert sorted(headings) == sorted(NAMES)


def test_the_runbook_points_at_panels_there_are() -> None:
    made = [json.loads(text) for text in dashboards().values()]
    titles = {one["title"].removeprefix("Re-ranker: "): one["panels"] for one in made}
    panels = {panel["title"] for one in made for panel in one["panels"]}
    plain = re.sub(r"\*\*.*?\*\*", "", " ".join(RUNBOOK.read_text().split()))
    named = set(re.findall(r"\*([^*]+)\*", plain))
    assert len(named) > 20
    for name in named - {"page", "ticket", "Re-ranker", "Status → Targets"} - titles.keys():
        dashboard, _, panel = name.rpartition(" → ")
        there = {one["title"] for one in titles[dashboard]} if dashboard else panels
        assert panel in there, name


def test_the_runbook_quotes_lines_that_are_logged() -> None:
    source = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))
    quoted = re.findall(r'"([^"]+)"', " ".join(RUNBOOK.read_text().split()))
    assert len(quoted) > 5
    for line in quoted:
        assert line in source, line


def test_no_rule_knows_the_name_of_a_job() -> None:
    for path in FOLDER.glob("rules/*.yml"):
        assert not re.findall(r"(?<!var-)\bjob *[=!]", path.read_text()), path


def test_links_begin_where_the_configuration_says_and_are_no_labels_of_alerts() -> None:
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    external = configuration["global"]["external_labels"]
    assert all(address.startswith("http://") for address in external.values())
    (dropping,) = configuration["alerting"]["alert_relabel_configs"]
    assert dropping == {"regex": "|".join(external), "action": "labeldrop"}
