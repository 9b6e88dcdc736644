"""deploy/kubernetes: its objects fit each other and the image."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile import ROOT, argument, command

from deploy.grafana.generate import dashboards
from deploy.prometheus.local import FOLDER
from deploy.prometheus.operator import prometheus_rule
from service.__main__ import read_settings
from service.app import create_app
from service.settings import Settings


def test_kubernetes_objects_find_each_other(kubernetes: dict[str, Any]) -> None:
    deployment = kubernetes["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels
    assert kubernetes["Service"]["spec"]["selector"].items() <= labels
    assert kubernetes["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels
    target = kubernetes["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"], "every apply would undo what the autoscaler has decided"
    assert kubernetes["HorizontalPodAutoscaler"]["spec"]["minReplicas"] >= 2
    assert kubernetes["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels
    for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"].items() <= labels
    (port,) = kubernetes["Service"]["spec"]["ports"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert port["targetPort"] == container["ports"][0]["name"]
    (inward,) = kubernetes["NetworkPolicy"]["spec"]["ingress"]
    assert inward["ports"] == [{"port": container["ports"][0]["name"], "protocol": "TCP"}]
    volumes = {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_kubernetes_fits_the_image(
    kubernetes: dict[str, Any], image_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RERANK_ALLOW_ANONYMOUS", "true")
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["ports"][0]["containerPort"] == int(argument("EXPOSE"))
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert user == argument("USER")
    paths = create_app(Settings(bundle="unopened")).openapi()["paths"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert command()[: len(container["command"])] == container["command"]
    settings = read_settings(container["args"])
    assert (settings.host, settings.port) == (image_settings.host, image_settings.port)
    assert settings.bundle == Path("/bundles/$(BUNDLE)"), "which the kubelet fills in"
    assert str(settings.bundle.parent) in mounts
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert str(Path(environment["RERANK_API_KEYS_FILE"]).parent) in mounts
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert container["image"] == f"eglr-reranker:{version}"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_another_bundle_is_another_template(kubernetes: dict[str, Any]) -> None:
    """So that `kubectl rollout undo` goes back to the version before."""
    (container,) = kubernetes["Deployment"]["spec"]["template"]["spec"]["containers"]
    (bundle,) = [entry["value"] for entry in container["env"] if entry["name"] == "BUNDLE"]
    assert len(Path(bundle).parts) == 2, "NAME/VERSION, no pointer that moves"
    assert "revisionHistoryLimit" in kubernetes["Deployment"]["spec"]


def test_the_monitoring_fits_the_service(kubernetes: dict[str, Any]) -> None:
    folder = ROOT / "deploy"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    assert {Path(name).name for name in generated["files"]} == dashboards().keys()
    for path in (*kustomization["resources"], *generated["files"], kustomization["patches"][0]["path"]):
        assert (folder / path).exists(), path
    size = sum((folder / name).stat().st_size for name in generated["files"])
    assert size < 262_144, "what `kubectl apply` can keep in an annotation"
    monitor = yaml.safe_load((folder / kustomization["resources"][1]).read_text())
    service = kubernetes["Service"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    patch = yaml.safe_load((folder / kustomization["patches"][0]["path"]).read_text())
    scaler = kubernetes["HorizontalPodAutoscaler"]
    assert (patch["kind"], patch["metadata"]["name"]) == (scaler["kind"], scaler["metadata"]["name"])
    cpu, wait = patch["spec"]["metrics"]
    assert cpu == scaler["spec"]["metrics"][0]
    adapter = yaml.safe_load((folder / "kubernetes/monitoring/prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    assert rule["name"]["as"] == wait["pods"]["metric"]["name"]


def test_the_rules_for_the_operator_are_the_same_with_the_sites_addresses() -> None:
    rule = prometheus_rule(runbook="https://wiki.example.com/rerank", grafana="https://grafana.example.com")
    groups = rule["spec"]["groups"]
    assert len({group["name"] for group in groups}) == len(groups)
    assert "externalLabels" not in str(rule)
    named = [one.get("alert", one.get("record")) for group in groups for one in group["rules"]]
    files = [yaml.safe_load(path.read_text()) for path in FOLDER.glob("rules/*.yml")]
    there = [one for file in files for group in file["groups"] for one in group["rules"]]
    assert sorted(named) == sorted(one.get("alert", one.get("record")) for one in there)
    links = [
        one["annotations"]["runbook_url"] for group in groups for one in group["rules"] if "alert" in one
    ]
    assert all(link.startswith("https://wiki.example.com/rerank#rerank") for link in links)


def test_a_pod_that_stops_answers_until_nobody_sends_to_it(kubernetes: dict[str, Any]) -> None:
    settings = Settings(bundle="/bundle")
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    drain_s = float(environment["RERANK_DRAIN_S"])
    assert pod["terminationGracePeriodSeconds"] > drain_s + settings.shutdown_timeout_s
    probe = pod["containers"][0]["readinessProbe"]
    assert drain_s > probe["periodSeconds"] * probe["failureThreshold"]


def test_keda_scales_the_deployment_instead_of_the_autoscaler(kubernetes: dict[str, Any]) -> None:
    folder = ROOT / "deploy/keda"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    (patch,) = (yaml.safe_load(one["patch"]) for one in kustomization["patches"])
    replaced = kubernetes["HorizontalPodAutoscaler"]
    assert patch == {
        "$patch": "delete",
        **{key: replaced[key] for key in ("apiVersion", "kind")},
        "metadata": {"name": replaced["metadata"]["name"]},
    }
    assert set(kustomization["resources"]) == {"../kubernetes", "scaled-object.yaml"}
    assert (folder / "../kubernetes/kustomization.yaml").exists()
    assert ROOT / "deploy/kubernetes" not in folder.parents, "kustomize takes it for a cycle"
    scaled = yaml.safe_load((folder / "scaled-object.yaml").read_text())
    assert scaled["spec"]["scaleTargetRef"]["name"] == kubernetes["Deployment"]["metadata"]["name"]
    limits = [scaled["spec"][name] for name in ("minReplicaCount", "maxReplicaCount")]
    assert limits == [replaced["spec"][name] for name in ("minReplicas", "maxReplicas")]
    assert limits[0] <= scaled["spec"]["fallback"]["replicas"] <= limits[1]


def test_the_scaled_object_is_what_keda_reads() -> None:
    """By its CustomResourceDefinition (keda.sh/v1alpha1) and its scalers, which nothing offline checks."""
    scaled = yaml.safe_load((ROOT / "deploy/keda/scaled-object.yaml").read_text())
    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    spec = scaled["spec"]
    assert {"scaleTargetRef", "triggers"} <= spec.keys()
    assert spec.keys() <= {
        *("scaleTargetRef", "triggers", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod"),
        *("idleReplicaCount", "minReplicaCount", "maxReplicaCount", "fallback", "advanced"),
    }
    assert spec["fallback"].keys() <= {"failureThreshold", "replicas", "behavior"}
    autoscaler = spec["advanced"].pop("horizontalPodAutoscalerConfig")
    assert spec["advanced"] == {}
    (policy,) = autoscaler["behavior"]["scaleDown"]["policies"]
    assert policy.keys() == {"type", "value", "periodSeconds"}
    asked = {
        "prometheus": {"serverAddress", "query", "threshold"},
        "cpu": {"value"},
    }
    may = {"prometheus": {"activationThreshold", "namespace", "customHeaders", "ignoreNullValues", "timeout"}}
    for trigger in spec["triggers"]:
        given, kind = trigger["metadata"], trigger["type"]
        assert asked[kind] <= given.keys() <= asked[kind] | may.get(kind, set())
        assert all(isinstance(value, str) for value in given.values()), "the definition takes texts alone"
        allowed = {"prometheus": {"AverageValue", "Value"}, "cpu": {"Utilization", "AverageValue"}}
        assert trigger["metricType"] in allowed[kind]
    (prometheus,) = (one for one in spec["triggers"] if one["type"] == "prometheus")
    assert prometheus["metricType"] == "AverageValue", "what `fallback` is for"
    milli = 1000 * float(prometheus["metadata"]["threshold"])
    assert milli == round(milli) >= 1, "KEDA hands it on in thousandths"
