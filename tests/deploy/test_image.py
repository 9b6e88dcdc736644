"""The Dockerfile: what it copies is there and enough, to serve without torch, no image is root."""

import json
import os
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from dockerfile import ROOT, argument, command, sources, stages

from launch.waiting import free_port
from service.app import create_app
from service.settings import Settings


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


def test_the_command_starts_the_service_on_the_exposed_port(image_settings: Settings) -> None:
    assert command()[:3] == ["python", "-m", "service"]
    assert image_settings.port == int(argument("EXPOSE"))
    assert image_settings.host == "0.0.0.0"
    assert image_settings.bundle == Path("/bundle")


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
        "import service.__main__, service.process.server, service.process.supervisor\n"
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
    """Each command of the trainer starts in what is copied, and knows the options it is given."""
    tree = copied_tree("trainer", tmp_path)
    script = command("trainer")[-1]
    config = re.search(r"\bCONFIG=(\w+)", argument("ENV", "trainer"))
    assert config is not None
    assert (tree / f"configs/{config[1]}.toml").exists()
    commands = dict(re.findall(r"python -m (\S+) ([^&]+)", script))
    assert list(commands) == ["model.train", "export"]
    code = without("loadtest", "evidence", "service", "locust") + (
        "import contextlib, runpy\n"
        "for module in sys.argv[1:]:\n"
        "    sys.argv[1:] = ['--help']\n"
        "    with contextlib.suppress(SystemExit): runpy.run_module(module, run_name='__main__')\n"
        "    print(end='\\f')\n"
        "import model, export\n"
        "print(model.__file__, export.__file__, sep='\\n')\n"
    )
    run = run_in(tree, code, *commands)
    assert run.returncode == 0, run.stderr
    *helps, files = run.stdout.split("\f")
    for options, text in zip(commands.values(), helps, strict=True):
        assert set(re.findall(r"--[a-z-]+", options)) <= set(re.findall(r"--[a-z-]+", text))
    assert all(Path(line).is_relative_to(tree) for line in files.splitlines()), files


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


@pytest.mark.parametrize("stage", ["service", "trainer", "load"])
def test_no_image_is_root(stage: str) -> None:
    user, group = argument("USER", stage).split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_the_service_stops_by_sigterm() -> None:
    assert argument("STOPSIGNAL") == "SIGTERM"
    assert command()[0] == "python", "no shell, which would keep the signal to itself"


def test_the_health_check_asks_a_route_there_is_on_the_exposed_port() -> None:
    check = argument("HEALTHCHECK")
    address = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", check)
    assert address is not None
    assert address[1] == argument("EXPOSE")
    assert address[2] in create_app(Settings(bundle="unopened")).openapi()["paths"]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_tells_a_ready_service_from_any_other(status: int | None, code: int) -> None:
    """`None`: nobody is there."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

    words: list[str] = json.loads(argument("HEALTHCHECK").partition(" CMD ")[2])
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        port = server.server_port if status else free_port()
        asked = words[-1].replace(f":{argument('EXPOSE')}/", f":{port}/")
        assert asked != words[-1]
        answering = Thread(target=server.serve_forever)
        answering.start()
        run = subprocess.run([sys.executable, *words[1:-1], asked], capture_output=True, text=True)
        server.shutdown()
        answering.join()
    assert run.returncode == code, run.stderr
