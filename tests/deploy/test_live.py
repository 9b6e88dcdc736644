"""Every panel's query and every rule, asked of a real Prometheus that watches the real service under load.

Rates look back 15 s, for Prometheus scrapes every second here and the load is young. Rules keep their own
windows: a rate over three days of which there are ten seconds is the rate of those. An alert that is quiet
has no data by its nature; so its comparisons are asked for their outcome (`> bool`), which is there whenever
both sides are.
"""

import json
import math
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random
from threading import Event, Thread
from time import monotonic
from typing import Any

import httpx
import pytest
import yaml
from eventually import eventually

from bundle.repository import point
from deploy.grafana.generate import DASHBOARDS
from deploy.grafana.panels import colour
from deploy.grafana.promql import everything
from deploy.prometheus.local import FOLDER, Prometheus, binary, get
from launch.bundles import copied
from launch.redis import RedisServer
from launch.service import ServiceProcess
from launch.waiting import free_port

PATIENCE_S = 90.0
"""Within which all has data: rates want two scrapes, rules an evaluation, drift a window of lists."""
RATE_INTERVAL = "15s"


def tight(seed: int) -> dict[str, Any]:
    """Rules of which many are hard to judge."""
    rng = Random(seed)
    groups = {f"g{n}": [f"i{item}" for item in rng.sample(range(24), 9)] for n in range(8)}
    return {
        "groups": groups,
        "at_most": [{"group": f"g{n}", "count": 1, "window": 3} for n in range(5)],
        "at_least": [{"group": f"g{n}", "count": 4, "top": 8} for n in range(5, 8)],
    }


def put_load(port: int, over: Event) -> None:
    """Reranks of all kinds with feedback, and requests that fail in every way a caller can make them."""
    known = [{"id": f"i{n}"} for n in range(24)]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        for number in count():
            if over.wait(0.02):
                return
            items = known[: 6 + number % 19]
            answer = client.post("/v1/rerank", json={"items": items, "user_id": f"u{number % 7}"}).json()
            event = {"type": "click", "item_id": items[0]["id"]}
            body = {"recommendation_id": answer["recommendation_id"], "events": [event]}
            client.post("/v1/feedback", json=body)
            new = {"id": "new", "features": {"colour": "red"}}
            client.post("/v1/rerank", json={"items": [*items, new], "user_id": f"cold{number}"})
            client.post("/v1/rerank", json={"items": items, "deadline_ms": 1e-6})
            client.post("/v1/rerank", json={"items": items, "deadline_ms": 1e-6, "strict": True})
            client.post("/v1/rerank", json={"items": []})
            client.post("/v1/rerank", json={"items": known, "top_n": 12, "constraints": tight(number)})
            client.get("/v1/users/nobody/context")


@pytest.fixture(scope="module")
def service(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Two versions, the second of them a shadow."""
    models = tmp_path_factory.mktemp("models")
    for version in ("1", "2"):
        copied(bundle, models, "eglr", version)
    point(models / "eglr", "1")
    told = ("--shadows", "eglr:eglr/2=1", "--drift-window", "50", "--drain-s", "0")
    with RedisServer() as redis, ServiceProcess(models, "--redis-url", redis.url, *told) as service:
        yield service


class Watched:
    """What Prometheus has seen of the service. The patience is for all questions together."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.prometheus, self._give_up = prometheus, monotonic() + PATIENCE_S

    async def has_data(self, expr: str) -> None:
        await eventually(
            lambda: finite(self.prometheus.query(expr)), within_s=max(0.0, self._give_up - monotonic())
        )


@pytest.fixture(scope="module")
def watched(service: ServiceProcess) -> Iterator[Watched]:
    get()
    over = Event()
    load = Thread(target=put_load, args=(service.port, over))
    target = f"127.0.0.1:{service.port}"
    with Prometheus(target, free_port(), interval_s=1, alerts_wait=False) as prometheus:
        load.start()
        yield Watched(prometheus)
        over.set()
        load.join()


def finite(result: list[dict[str, Any]]) -> bool:
    return any(math.isfinite(float(series["value"][1])) for series in result)


def queries() -> list[Any]:
    return [
        pytest.param(target["expr"], id=f"{path.stem}:{panel['title']}:{target['refId']}")
        for path in sorted(DASHBOARDS.glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", ())
    ]


def rules(kind: str) -> list[Any]:
    files = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("rules/*.yml"))]
    found = [rule for file in files for group in file["groups"] for rule in group["rules"] if kind in rule]
    return [pytest.param(rule, id=rule[kind]) for rule in found]


@pytest.mark.parametrize("expr", queries())
async def test_a_panel_has_data(watched: Watched, expr: str) -> None:
    asked = everything(expr, RATE_INTERVAL)
    assert "$" not in asked, "a variable Grafana would have to know"
    await watched.has_data(asked)


@pytest.mark.parametrize("rule", rules("record"))
async def test_a_recording_rule_has_data(watched: Watched, rule: dict[str, Any]) -> None:
    await watched.has_data(rule["expr"])
    await watched.has_data(rule["record"])  # by Prometheus itself


@pytest.mark.parametrize("rule", rules("alert"))
async def test_an_alert_compares_what_there_is(watched: Watched, rule: dict[str, Any]) -> None:
    outcome = re.sub(r" (==|>|<) ", r" \1 bool ", rule["expr"]).replace("absent(", "(")
    assert outcome != rule["expr"]
    await watched.has_data(outcome)
    assert {one["metric"].get("job") for one in watched.prometheus.query(outcome)} == {"rerank"}


async def test_keda_gets_one_number(watched: Watched) -> None:
    """More than one element, or none, is an error to its scaler."""
    scaled = yaml.safe_load((FOLDER.parent / "keda/scaled-object.yaml").read_text())
    (asked,) = (one["metadata"] for one in scaled["spec"]["triggers"] if one["type"] == "prometheus")
    await watched.has_data(asked["query"])
    (wait,) = watched.prometheus.query(asked["query"])
    assert wait["metric"] == {}
    assert 0.0 <= float(wait["value"][1]) < 10.0


async def test_what_is_drawn_into_every_panel_has_data(watched: Watched) -> None:
    for one in json.loads((DASHBOARDS / "service.json").read_text())["annotations"]["list"]:
        await watched.has_data(everything(one["expr"], RATE_INTERVAL))


def test_prometheus_serves_the_runbook_that_alerts_link_to(watched: Watched) -> None:
    alerts = watched.prometheus.get("alerts")["alerts"]
    assert alerts, "a quarter of the load fails"
    for alert in alerts:
        assert "## RerankInstanceDown" in httpx.get(alert["annotations"]["runbook_url"]).text


async def test_prometheus_is_content_with_every_rule(watched: Watched) -> None:
    await watched.has_data('up{job="rerank"} == 1')
    await eventually(lambda: all(rule["health"] != "unknown" for rule in evaluated(watched.prometheus)))
    found = evaluated(watched.prometheus)
    assert len(found) == len(rules("record")) + len(rules("alert"))
    assert {rule["name"]: rule.get("lastError", "") for rule in found if rule["health"] != "ok"} == {}


def evaluated(prometheus: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]


def first_row() -> dict[str, dict[str, Any]]:
    """The panels that say at one glance how it is."""
    panels = json.loads((DASHBOARDS / "service.json").read_text())["panels"]
    end = next(i for i, panel in enumerate(panels) if i and panel["type"] == "row")
    return {panel["title"]: panel for panel in panels[1:end]}


def colours(prometheus: Prometheus) -> dict[str, list[str]]:
    """What the first row looks like now: the colour of each number of each panel."""

    def now(target: dict[str, Any]) -> float | None:
        found = prometheus.query(everything(target["expr"], RATE_INTERVAL))
        assert len(found) <= 1
        return float(found[0]["value"][1]) if found else None

    return {
        title: [colour(panel, number, now(target)) for number, target in enumerate(panel["targets"])]
        for title, panel in first_row().items()
    }


async def test_traffic_that_fails_is_red(watched: Watched) -> None:
    """A quarter of the reranks is answered 504."""
    await watched.has_data("job:rerank_unavailable:ratio_rate30d > 0.1")
    seen = colours(watched.prometheus)
    for title in ("Firing alerts", "Firing for", "Reranks failed", "Availability budget"):
        assert seen[title] == ["red"], title
    assert seen["Instances"] == ["green", "green"]
    assert seen["Context store"] == ["green"]


def test_every_series_is_of_a_known_kind(service: ServiceProcess, watched: Watched) -> None:
    """Names, units and help texts as Prometheus's own linter wants them."""
    text = httpx.get(f"{service.url}/metrics").text
    run = subprocess.run(
        [binary("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
    )
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


async def test_a_total_outage_is_red(bundle: Path) -> None:
    """Nobody asks for anything, then all is well, and then there is no instance any more."""
    with ExitStack() as stack:
        service = stack.enter_context(ServiceProcess(bundle, "--drain-s", "0"))
        target = f"127.0.0.1:{service.port}"
        prometheus = stack.enter_context(Prometheus(target, free_port(), interval_s=1, alerts_wait=False))
        quiet = {  # but for alerts: a busy machine stalls the event loop
            "Instances": ["green", "green"],
            "Reranks failed": ["text"],
            "Availability budget": ["text"],
            "Reranks over 50 ms": ["text"],
            "Latency budget": ["text"],
            "Context store": ["green"],
        }
        await eventually(lambda: quiet.items() <= colours(prometheus).items())
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            await client.post("/v1/rerank", json={"items": [{"id": "i1"}], "deadline_ms": 9000})
        well = {name: ["green"] for name in ("Reranks failed", "Availability budget")}
        await eventually(lambda: well.items() <= colours(prometheus).items())
        service.process.kill()
        gone = {
            "Firing alerts": ["red"],
            "Firing for": ["red"],
            "Instances": ["red", "red"],
            "Reranks failed": ["red"],
            "Context store": ["text"],
        }
        await eventually(lambda: gone.items() <= colours(prometheus).items())

        def firing() -> set[str]:
            return {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"]}

        await eventually(lambda: {"RerankInstanceDown", "RerankAbsent"} <= firing())
