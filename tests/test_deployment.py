"""Dockerfile and Compose file: what they name exists in the code, and the image serves without torch."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis_server import free_port

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


def stage(number: int) -> list[tuple[str, str]]:
    """The instructions after the `number`th FROM; -1 is the image's own stage."""
    stages: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((word, rest))
    return stages[number]


def argument(word: str) -> str:
    """Of the last such instruction of the image's own stage, which is the one that holds."""
    return [rest for found, rest in stage(-1) if found == word][-1]


def command() -> list[str]:
    words: list[str] = json.loads(argument("CMD"))
    return words


def sources() -> list[str]:
    """The arguments of the builder's COPY instructions: paths of the tree, then the folder they go to."""
    return [rest for word, rest in stage(1) if word == "COPY"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    file: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return file


@pytest.fixture
def image_tree(tmp_path: Path) -> Path:
    """The image's /app: what the Dockerfile copies, where it copies it to."""
    for copy in sources():
        *paths, target = copy.split()
        for path in paths:
            destination = tmp_path / target
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, destination, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                destination.mkdir(exist_ok=True)
                shutil.copy(ROOT / path, destination)
    return tmp_path


def test_the_command_starts_the_service_on_the_exposed_port() -> None:
    python, dash_m, package, *arguments = command()
    assert [python, dash_m, package] == ["python", "-m", "service"]
    settings = read_settings(arguments)
    assert settings.port == int(argument("EXPOSE"))
    assert settings.host == "0.0.0.0"
    assert settings.bundle == Path("/bundle")


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    allowed = re.findall(r"^!(.+?)/?$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [path for copy in sources() for path in copy.split()[:-1]]
    assert "service" in copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert path.split("/")[0] in allowed, path


def test_what_is_copied_is_enough_to_serve_and_needs_no_torch(image_tree: Path, bundle: Path) -> None:
    """In the image's own folder, with the training libraries made impossible to import."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'lightgbm', 'export', 'loadtest'): sys.modules[name] = None\n"
        "import service.server, service.supervisor\n"
        "from service.engine.loaded_model import LoadedModel\n"
        "from pathlib import Path\n"
        "import model\n"
        "LoadedModel.open(Path(sys.argv[1]))\n"
        "print(service.server.__file__, model.__file__, sep='\\n')\n"
    )
    run = subprocess.run(
        [sys.executable, "-B", "-c", code, str(bundle)],
        cwd=image_tree,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert all(Path(line).is_relative_to(image_tree) for line in run.stdout.splitlines()), run.stdout


@pytest.mark.parametrize(("runtime", "other"), [("cpu", "onnxruntime-gpu"), ("gpu", "onnxruntime")])
def test_what_is_installed_is_one_runtime_and_no_torch(runtime: str, other: str, tmp_path: Path) -> None:
    """The Dockerfile's own script, run on the project's own pyproject.toml."""
    run = next(rest for word, rest in stage(1) if word == "RUN" and "tomllib" in rest)
    words = shlex.split(run)
    script = words[words.index("-c") + 1]
    printed = subprocess.run(
        [sys.executable, "-c", script, runtime], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = [re.split(r"[\[<>=~! ]", line)[0] for line in printed.stdout.splitlines()]
    assert {"fastapi", "redis", "uvicorn"} < set(names)
    assert not {"torch", "onnx", "lightgbm", "locust", "pytest", other} & set(names)
    assert sum(name.startswith("onnxruntime") for name in names) == 1
    assert "cpu|gpu) ;; *)" in run, "the train extra cannot be asked for"


def test_the_image_is_not_root_and_stops_by_sigterm() -> None:
    user, group = argument("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
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


def test_variables_are_settings(compose: dict[str, Any]) -> None:
    environment = compose["services"]["service"]["environment"]
    assert set(environment) <= SETTINGS
    settings = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in environment.items()}
    assert Settings(bundle="/bundle", **settings).redis_url is not None
    text = DOCKERFILE + (ROOT / "docker-compose.yml").read_text()
    on_the_host = {"RERANK_BUNDLE_DIR"}  # where the bundle is mounted from; the service never sees it
    assert set(re.findall(r"\bRERANK_[A-Z_]*[A-Z]\b", text)) <= SETTINGS | on_the_host


def test_compose_fits_the_image(compose: dict[str, Any]) -> None:
    service, redis = compose["services"]["service"], compose["services"]["redis"]
    assert service["build"] == "."
    (port,) = service["ports"]
    assert port.split(":")[0] == "127.0.0.1", "not reachable from outside: there is no access control"
    assert port.split(":")[2] == argument("EXPOSE")
    (volume,) = service["volumes"]
    assert Path(volume["target"]) == read_settings(command()[3:]).bundle
    assert volume["read_only"] is True
    url = service["environment"]["RERANK_REDIS_URL"]
    assert url.startswith("redis://redis:6379/"), "the other service's name and Redis's port"
    assert service["depends_on"]["redis"]["condition"] == "service_healthy"
    assert redis["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    assert re.fullmatch(r"redis:\d+\.\d+\.\d+-\S+", redis["image"]), "pinned"


def test_compose_gives_no_more_than_needed(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert "ports" not in compose["services"]["redis"]


def test_compose_waits_until_open_requests_are_answered(compose: dict[str, Any]) -> None:
    grace_s = float(compose["services"]["service"]["stop_grace_period"].removesuffix("s"))
    settings = Settings(bundle="/bundle")
    assert grace_s > settings.drain_s + settings.shutdown_timeout_s
