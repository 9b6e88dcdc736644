"""deploy/kubernetes: its objects fit each other and the image."""

import tomllib
from pathlib import Path
from typing import Any

from dockerfile import ROOT, argument

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
    assert kubernetes["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == deployment["spec"]["replicas"]
    (port,) = kubernetes["Service"]["spec"]["ports"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert port["targetPort"] == container["ports"][0]["name"]
    volumes = {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_kubernetes_fits_the_image(kubernetes: dict[str, Any], image_settings: Settings) -> None:
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["ports"][0]["containerPort"] == int(argument("EXPOSE"))
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert user == argument("USER")
    paths = create_app(Settings(bundle="unopened")).openapi()["paths"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(image_settings.bundle) in mounts
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert str(Path(environment["RERANK_API_KEYS_FILE"]).parent) in mounts
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert container["image"] == f"eglr-reranker:{version}"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_pod_that_stops_answers_until_nobody_sends_to_it(kubernetes: dict[str, Any]) -> None:
    settings = Settings(bundle="/bundle")
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    drain_s = float(environment["RERANK_DRAIN_S"])
    assert pod["terminationGracePeriodSeconds"] > drain_s + settings.shutdown_timeout_s
    probe = pod["containers"][0]["readinessProbe"]
    assert drain_s > probe["periodSeconds"] * probe["failureThreshold"]
