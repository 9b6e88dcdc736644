"""docker-compose.yml: it fits the images, its services find each other, and none may more than it needs."""

import re
from pathlib import Path
from typing import Any

import yaml
from dockerfile import ROOT, argument, command, stages

from service.settings import ENV_PREFIX, Settings


def test_compose_fits_the_images(compose: dict[str, Any], image_settings: Settings) -> None:
    services = compose["services"]
    for name in ("service", "trainer", "load"):
        assert services[name]["build"]["target"] in stages(), name
    (volume,) = services["service"]["volumes"]
    assert Path(volume["target"]) == image_settings.bundle
    assert volume["read_only"] is True
    assert services["service"]["environment"]["RERANK_REDIS_URL"].startswith("redis://redis:6379/")
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    inside = {
        name: service["ports"][0].split(":")[2] for name, service in services.items() if "ports" in service
    }
    assert inside["service"] == argument("EXPOSE")
    assert inside["load"] == argument("EXPOSE", "load")
    assert services["load"]["environment"] == {"LOCUST_HOST": f"http://service:{inside['service']}"}
    (bundle,) = services["load"]["volumes"]
    assert command("load", "ENTRYPOINT")[-2:] == ["--items-file", bundle["target"]]
    folders = {mount.split(":")[-1] for mount in services["trainer"]["volumes"]}
    script = command("trainer")[-1]
    assert folders == {"/data", "/bundles"}
    assert "EGLR_DATA_DIR=/data" in argument("ENV", "trainer")
    assert "--bundle /bundles/" in script


def test_every_path_of_the_tree_that_compose_mounts_exists(compose: dict[str, Any]) -> None:
    mounts = [
        mount.split(":")
        for name in ("prometheus", "alertmanager", "grafana")
        for mount in compose["services"][name]["volumes"]
        if mount.startswith("./")
    ]
    assert len(mounts) == 5
    for source, _, mode in mounts:
        assert (ROOT / source).is_dir(), source
        assert mode == "ro"


def test_prometheus_and_grafana_are_wired_to_what_there_is(compose: dict[str, Any]) -> None:
    services = compose["services"]
    options = dict(option.split("=") for option in services["prometheus"]["command"])
    assert f"./docs:{options['--web.user-assets']}:ro" in services["prometheus"]["volumes"]
    folder = next(mount for mount in services["prometheus"]["volumes"] if mount.startswith("./")).split(":")
    config = ROOT / folder[0] / Path(options["--config.file"]).relative_to(folder[1])
    scraped = yaml.safe_load(config.read_text())
    targets = [target for job in scraped["scrape_configs"] for target in job["static_configs"][0]["targets"]]
    assert f"service:{argument('EXPOSE')}" in targets
    (receiving,) = scraped["alerting"]["alertmanagers"]
    port = services["alertmanager"]["ports"][0].split(":")[-1]
    assert receiving["static_configs"] == [{"targets": [f"alertmanager:{port}"]}]
    for pattern in scraped["rule_files"]:
        assert list(config.parent.glob(pattern)), pattern
    mounted = dict(m.split(":")[:2] for m in services["grafana"]["volumes"] if m.startswith("./"))
    (sources_folder,) = (f for f in mounted if f.endswith("provisioning"))
    (source,) = (ROOT / sources_folder).glob("datasources/*.yml")
    url = yaml.safe_load(source.read_text())["datasources"][0]["url"]
    port = services["prometheus"]["ports"][0].split(":")[-1]
    assert url == f"http://prometheus:{port}"
    (provider,) = (ROOT / sources_folder).glob("dashboards/*.yml")
    path = yaml.safe_load(provider.read_text())["providers"][0]["options"]["path"]
    assert path in mounted.values()
    (dashboards,) = (ROOT / source for source, target in mounted.items() if target == path)
    assert list(dashboards.glob("*.json"))


def test_prometheus_remembers_the_objectives_window(compose: dict[str, Any]) -> None:
    words = dict(option.split("=") for option in compose["services"]["prometheus"]["command"])
    kept_days = int(words["--storage.tsdb.retention.time"].removesuffix("d"))
    rules = (ROOT / "deploy/prometheus/rules/recording.yml").read_text()
    windows = [int(days) for days in re.findall(r"\[(\d+)d\]", rules)]
    assert max(windows) == 30, "what the objectives are about"
    assert kept_days > max(windows)


def test_every_alert_has_a_receiver(compose: dict[str, Any]) -> None:
    file = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
    receivers = {receiver["name"] for receiver in file["receivers"]}
    assert {file["route"]["receiver"], *(route["receiver"] for route in file["route"]["routes"])} <= receivers
    alerts = (ROOT / "deploy/prometheus/rules/alerts.yml").read_text()
    matchers = [matcher for rule in file["inhibit_rules"] for matcher in rule["source_matchers"]]
    for name in re.findall(r'alertname="(\w+)"', " ".join(matchers)):
        assert f"alert: {name}\n" in alerts


def test_monitoring_starts_whether_or_not_the_service_does(compose: dict[str, Any]) -> None:
    for name in ("prometheus", "alertmanager", "grafana"):
        assert "depends_on" not in compose["services"][name]
    (bundle,) = compose["services"]["service"]["volumes"]
    assert bundle["bind"] == {"create_host_path": True}, "else a missing folder keeps all from starting"


def test_nothing_takes_all_the_memory(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.fullmatch(r"(\$\{\w+:-)?\d+[mg]\}?", service["mem_limit"]), name


def test_compose_starts_each_once_what_it_needs_is_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    needs = {name: service.get("depends_on", {}) for name, service in services.items()}
    assert {name for name, needed in needs.items() if needed} == {"service", "load"}
    for name, needed in needs.items():
        for other, how in needed.items():
            assert how == {"condition": "service_healthy"}, name
            # Those built here bring their health check in the image.
            assert "healthcheck" in services[other] or argument(
                "HEALTHCHECK", services[other]["build"]["target"]
            )
    assert services["load"]["profiles"] == ["load"]
    assert services["trainer"]["profiles"] == ["train"]


def test_compose_gives_no_more_than_needed(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service
        for port in service.get("ports", []):
            assert port.split(":")[0] == "127.0.0.1", "not reachable from outside: nobody is asked for a key"
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+\.\d+(-\S+)?$", service["image"]), f"{name} is not pinned"
    assert "ports" not in compose["services"]["redis"]


def test_the_services_variables_are_good_settings(compose: dict[str, Any]) -> None:
    environment = compose["services"]["service"]["environment"]
    values = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in environment.items()}
    settings = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in values.items()}
    assert Settings(bundle="/bundle", **settings).redis_url is not None


def test_what_stops_the_service_waits_until_open_requests_are_answered(compose: dict[str, Any]) -> None:
    settings = Settings(bundle="/bundle")
    grace_s = float(compose["services"]["service"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > settings.drain_s + settings.shutdown_timeout_s
