"""Dockerfile, Compose and Kubernetes files: what they name exists, and the image serves without torch."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis_server import free_port

from deploy.requirements import requirements
from service.__main__ import read_settings
from service.app import create_app
from service.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SETTINGS = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}


def instructions() -> list[tuple[str, str]]:
    """Every instruction and its arguments: comments dropped, continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines())
        if word
    ]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions from each FROM on, by the stage's name."""
    named: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            name = rest.split(" AS ")[1]
            named[name] = []
        if named:
            named[name].append((word, rest))
    return named


def argument(word: str, stage: str = "service") -> str:
    """Of the last such instruction of the stage, which is the one that holds."""
    return [rest for found, rest in stages()[stage] if found == word][-1]


def command(stage: str = "service", word: str = "CMD") -> list[str]:
    words: list[str] = json.loads(argument(word, stage))
    return words


def sources(stage: str) -> list[str]:
    """The arguments of COPY instructions from the tree: paths, then the folder they go to."""
    return [rest for word, rest in stages()[stage] if word == "COPY" and "--from" not in rest]


def copied_tree(stage: str, target: Path) -> Path:
    """The stage's /app: what the Dockerfile copies, where it copies it to."""
    for copy in sources(stage):
        *paths, folder = copy.split()
        for path in paths:
            destination = target / folder
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, destination, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                destination.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, destination)
    return target


def run_in(tree: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python code with this folder as the only place to import ours from."""
    return subprocess.run(
        [sys.executable, "-B", "-c", code, *arguments],
        cwd=tree,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )


def without(*modules: str) -> str:
    """Code that makes modules impossible to import."""
    return f"import sys\nfor name in {modules!r}: sys.modules[name] = None\n"


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, Any]:
    """The objects that are applied, by kind."""
    folder = ROOT / "deploy/kubernetes"
    applied = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {*applied, "kustomization.yaml"} == {file.name for file in folder.iterdir()}
    return {
        part["kind"]: part for name in applied for part in yaml.safe_load_all((folder / name).read_text())
    }


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    file: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return file


def test_the_command_starts_the_service_on_the_exposed_port() -> None:
    python, dash_m, package, *arguments = command()
    assert [python, dash_m, package] == ["python", "-m", "service"]
    settings = read_settings(arguments)
    assert settings.port == int(argument("EXPOSE"))
    assert settings.host == "0.0.0.0"
    assert settings.bundle == Path("/bundle")


def test_the_service_is_the_image_built_by_default() -> None:
    assert list(stages())[-1] == "service"


@pytest.mark.parametrize("stage", ["installer", "service-build", "trainer", "load"])
def test_what_is_copied_exists_and_is_not_ignored(stage: str) -> None:
    ignore = (ROOT / ".dockerignore").read_text()
    allowed = re.findall(r"^!(.+?)/?$", ignore, re.MULTILINE)
    copied = [path for copy in sources(stage) for path in copy.split()[:-1]]
    assert copied
    assert "*" in ignore.splitlines()
    for path in copied:
        assert (ROOT / path).exists(), path
        assert path in allowed or path.split("/")[0] in allowed, path


def test_what_is_copied_is_enough_to_serve_and_needs_no_torch(bundle: Path, tmp_path: Path) -> None:
    tree = copied_tree("service-build", tmp_path)
    code = without("torch", "onnx", "lightgbm", "model", "export", "loadtest") + (
        "import service.process.server, service.process.supervisor\n"
        "from engine.loaded_model import LoadedModel\n"
        "from pathlib import Path\n"
        "import bundle\n"
        "LoadedModel.open(Path(sys.argv[1]))\n"
        "print(service.process.server.__file__, bundle.__file__, sep='\\n')\n"
    )
    run = run_in(tree, code, str(bundle))
    assert run.returncode == 0, run.stderr
    assert all(Path(line).is_relative_to(tree) for line in run.stdout.splitlines()), run.stdout


def test_what_is_copied_is_enough_to_train(tmp_path: Path) -> None:
    tree = copied_tree("trainer", tmp_path)
    code = without("loadtest", "evidence", "service", "locust") + (
        "import model.train, export.__main__\nprint(model.__file__, export.__file__, sep='\\n')\n"
    )
    run = run_in(tree, code)
    assert run.returncode == 0, run.stderr
    assert all(Path(line).is_relative_to(tree) for line in run.stdout.splitlines()), run.stdout
    script = command("trainer")[-1]
    config = re.search(r"\bCONFIG=(\w+)", argument("ENV", "trainer"))
    assert config is not None
    assert (tree / f"configs/{config[1]}.toml").exists()
    for module, options in re.findall(r"python -m (\S+) ([^&]+)", script):
        text = run_in(
            tree,
            f"import runpy, sys; sys.argv[1:] = ['--help']; runpy.run_module({module!r}, "
            "run_name='__main__')",
        ).stdout
        assert set(re.findall(r"--[a-z-]+", options)) <= set(re.findall(r"--[a-z-]+", text)), module


def test_what_is_copied_is_enough_for_locust(tmp_path: Path) -> None:
    tree = copied_tree("load", tmp_path)
    words = command("load", "ENTRYPOINT")
    assert words[0] == "locust"
    locust = Path(sys.executable).parent / "locust"
    # `--list` reads the file and the options, and starts nothing.
    run = subprocess.run(
        [locust, *words[1:], "--list"], cwd=tree, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(("runtime", "other"), [("cpu", "onnxruntime-gpu"), ("gpu", "onnxruntime")])
def test_what_is_installed_is_one_runtime_and_no_torch(runtime: str, other: str) -> None:
    run = next(rest for word, rest in stages()["service-packages"] if word == "RUN")
    assert 'requirements.py "$RUNTIME" "$EXTRAS"' in run
    assert "cpu|gpu) ;; *)" in run, "the train extra cannot be asked for"
    lines = requirements(ROOT / "pyproject.toml", [runtime, ""])
    names = [re.split(r"[\[<>=~! ]", line)[0] for line in lines]
    assert {"fastapi", "redis", "uvicorn"} < set(names)
    assert not {"torch", "onnx", "lightgbm", "locust", "pytest", other} & set(names)
    assert sum(name.startswith("onnxruntime") for name in names) == 1


def test_every_extra_of_an_image_exists_and_a_made_up_one_is_refused() -> None:
    asked = re.findall(r"requirements\.py (?:--only )?([a-z ]+) >", DOCKERFILE)
    assert {"cpu train", "loadtest"} <= {words.strip() for words in asked}
    for words in asked:
        assert len(requirements(ROOT / "pyproject.toml", words.split())) > 8
    assert any("opentelemetry" in line for line in requirements(ROOT / "pyproject.toml", ["cpu", "otel"]))
    assert [
        line.split(">")[0] for line in requirements(ROOT / "pyproject.toml", ["loadtest"], only=True)
    ] == [
        "locust",
        "numpy",
    ]
    with pytest.raises(SystemExit, match="no such extra: nothing"):
        requirements(ROOT / "pyproject.toml", ["cpu", "nothing"])


def test_every_requirement_of_an_image_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    for line in requirements(ROOT / "pyproject.toml", ["cpu", "train", "loadtest", "otel", "deploy"]):
        assert re.split(r"[\[<>=~! ]", line)[0].lower().replace("_", "-") in pinned, line


@pytest.mark.parametrize("stage", ["service", "trainer", "load"])
def test_no_image_is_root(stage: str) -> None:
    user, group = argument("USER", stage).split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_the_service_stops_by_sigterm() -> None:
    assert argument("STOPSIGNAL") == "SIGTERM"
    assert command()[0] == "python", "no shell, which would keep the signal to itself"


def test_the_health_check_asks_a_route_there_is_on_the_exposed_port(bundle: Path) -> None:
    check = argument("HEALTHCHECK")
    address = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", check)
    assert address is not None
    assert address[1] == argument("EXPOSE")
    assert address[2] in create_app(Settings(bundle=bundle)).openapi()["paths"]


def test_the_health_check_fails_without_a_service() -> None:
    words: list[str] = json.loads(argument("HEALTHCHECK").partition(" CMD ")[2])
    closed = words[-1].replace(f":{argument('EXPOSE')}/", f":{free_port()}/")
    assert closed != words[-1]
    run = subprocess.run([sys.executable, *words[1:-1], closed], capture_output=True, text=True)
    assert run.returncode == 1


def test_variables_are_settings(compose: dict[str, Any], kubernetes: dict[str, Any]) -> None:
    environment = compose["services"]["service"]["environment"]
    container = kubernetes["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert set(environment) | {entry["name"] for entry in container["env"]} <= SETTINGS
    values = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in environment.items()}
    settings = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in values.items()}
    assert Settings(bundle="/bundle", **settings).redis_url is not None
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", ROOT / "docs/deployment.md"]
    text = "".join(file.read_text() for file in [*files, *(ROOT / "deploy/kubernetes").iterdir()])
    on_the_host = {"RERANK_BUNDLE_DIR"}  # where the bundle is mounted from; the service never sees it
    assert set(re.findall(r"\bRERANK_[A-Z_]*[A-Z]\b", text)) <= SETTINGS | on_the_host


def test_compose_fits_the_images(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in ("service", "trainer", "load"):
        assert services[name]["build"]["target"] in stages(), name
    (volume,) = services["service"]["volumes"]
    assert Path(volume["target"]) == read_settings(command()[3:]).bundle
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
        for name in ("prometheus", "grafana")
        for mount in compose["services"][name]["volumes"]
        if mount.startswith("./")
    ]
    assert len(mounts) == 3
    for source, _, mode in mounts:
        assert (ROOT / source).is_dir(), source
        assert mode == "ro"


def test_prometheus_and_grafana_are_wired_to_what_there_is(compose: dict[str, Any]) -> None:
    services = compose["services"]
    options = dict(option.split("=") for option in services["prometheus"]["command"])
    folder = next(mount for mount in services["prometheus"]["volumes"] if mount.startswith("./")).split(":")
    config = ROOT / folder[0] / Path(options["--config.file"]).relative_to(folder[1])
    scraped = yaml.safe_load(config.read_text())
    targets = [target for job in scraped["scrape_configs"] for target in job["static_configs"][0]["targets"]]
    assert f"service:{argument('EXPOSE')}" in targets
    for pattern in scraped["rule_files"]:
        assert list(config.parent.glob(pattern)), pattern
    mounted = dict(m.split(":")[:2] for m in services["grafana"]["volumes"] if m.startswith("./"))
    (sources_folder,) = (f for f in mounted if f.endswith("provisioning"))
    (source,) = (ROOT / sources_folder).glob("datasources/*.yml")
    url = yaml.safe_load(source.read_text())["datasources"][0]["url"]
    assert url == "http://prometheus:9090"
    assert services["prometheus"]["ports"][0].endswith(":9090")
    (provider,) = (ROOT / sources_folder).glob("dashboards/*.yml")
    path = yaml.safe_load(provider.read_text())["providers"][0]["options"]["path"]
    assert path in mounted.values()
    (dashboards,) = (ROOT / source for source, target in mounted.items() if target == path)
    assert list(dashboards.glob("*.json"))


def test_compose_starts_each_once_what_it_needs_is_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    needs = {name: service.get("depends_on", {}) for name, service in services.items()}
    assert {name for name, needed in needs.items() if not needed} == {"redis", "trainer"}
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
            assert port.split(":")[0] == "127.0.0.1", "not reachable from outside: there is no access control"
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+\.\d+(-\S+)?$", service["image"]), f"{name} is not pinned"
    assert "ports" not in compose["services"]["redis"]


def test_what_stops_the_service_waits_until_open_requests_are_answered(
    compose: dict[str, Any], kubernetes: dict[str, Any]
) -> None:
    settings = Settings(bundle="/bundle")
    grace_s = float(compose["services"]["service"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > settings.drain_s + settings.shutdown_timeout_s
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    drain_s = float(environment["RERANK_DRAIN_S"])
    assert pod["terminationGracePeriodSeconds"] > drain_s + settings.shutdown_timeout_s
    probe = pod["containers"][0]["readinessProbe"]
    assert drain_s > probe["periodSeconds"] * probe["failureThreshold"]


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


def test_kubernetes_fits_the_image(kubernetes: dict[str, Any], bundle: Path) -> None:
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["ports"][0]["containerPort"] == int(argument("EXPOSE"))
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert user == argument("USER")
    paths = create_app(Settings(bundle=bundle)).openapi()["paths"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(read_settings(command()[3:]).bundle) in mounts
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert container["image"] == f"eglr-reranker:{version}"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_container_test_says_what_it_lacks(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "deploy.container_test"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "buildah, conmon, debootstrap, podman, runc" in run.stderr
