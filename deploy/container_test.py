"""Builds the images of service and Locust and runs them: `python -m deploy.container_test [--bundle DIR]`.

For a machine without a container registry: the base image is a stand-in, Debian with its own Python, made by
debootstrap once and kept by podman. So this tests the Dockerfile and what it builds, not the real base image.
Needs root on Debian; ends with exit code 2 and the names of what is missing.
"""

import argparse
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from launch.redis import RedisServer
from launch.waiting import until_ready

ROOT = Path(__file__).resolve().parents[1]
ANONYMOUS = ("-e", "RERANK_ALLOW_ANONYMOUS=true", "-e", "RERANK_DEFAULT_DEADLINE_MS=10000")
"""And patient, so that a busy machine fails nothing."""
IMAGE, LOAD_IMAGE = "localhost/eglr-reranker:container-test", "localhost/eglr-reranker-load:container-test"
PACKAGES = {
    "buildah": "buildah",
    "podman": "podman",
    "runc": "runc",
    "conmon": "conmon",
    "debootstrap": "debootstrap",
}
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
CONFINED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
)
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "host"
cgroupns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""No raised limits and no bridges: a confined machine allows neither."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="bundle to serve; a tiny untrained one if absent")
    parser.add_argument("--extras", default="", help="extras of pyproject.toml in the service image")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))  # for a tiny bundle
    missing = sorted(package for command, package in PACKAGES.items() if shutil.which(command) is None)
    if os.geteuid() != 0 or missing:
        print(f"needs root and, from Debian: {', '.join(missing) or 'nothing more'}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        configuration = Path(scratch) / "containers.conf"
        configuration.write_text(CONTAINERS_CONF)
        os.environ["CONTAINERS_CONF"] = str(configuration)
        base = re.search(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert base is not None
        make_base(f"docker.io/library/{base[1]}", Path(scratch) / "root")
        build(IMAGE, "service", extras=arguments.extras)
        build(LOAD_IMAGE, "load")
        bundle = Path(scratch) / "bundle"
        copy_bundle(arguments.bundle, bundle)
        try_image(bundle)
    print("container-test: ok")
    return 0


def run(*command: str | Path, **options: Any) -> str:
    """A command's output; what it complains of goes to the terminal.

    Raises:
        CalledProcessError: it failed.
    """
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout.strip()


def make_base(name: str, root: Path) -> None:
    """The stand-in, unless podman has one of that name."""
    if subprocess.run(["podman", "image", "exists", name], check=False).returncode == 0:
        return
    print(f"making a stand-in for {name}, some minutes")
    wanted = "python3,python3-venv,python3-pip,ca-certificates"
    run("debootstrap", "--variant=minbase", f"--include={wanted}", "bookworm", root)
    for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(root / waste)
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    path = "ENV PATH=/usr/local/bin:/usr/bin:/bin"
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        run("podman", "import", "--quiet", "--change", path, "-", name, stdin=tar.stdout)
    shutil.rmtree(root)


def build(name: str, target: str, **arguments: str) -> None:
    """An image, from the Dockerfile as it is."""
    started = time.monotonic()
    run(
        *("buildah", "bud", "--quiet", "--isolation", "chroot", "--pull=never", "--network", "host"),
        *("--format", "docker", "-v", f"{CERTIFICATES}:{CERTIFICATES}:ro", "--target", target, "-t", name),
        *(f"--build-arg={argument.upper()}={value}" for argument, value in arguments.items()),
        ROOT,
    )
    print(f"{target}: built in {time.monotonic() - started:.0f} s, {image_sizes(name)}", flush=True)


def copy_bundle(given: Path | None, target: Path) -> None:
    """The bundle, readable by the image's user."""
    if given is None:
        from tiny_bundle import build_tiny_bundle

        build_tiny_bundle(target)
    else:
        shutil.copytree(given, target)
    target.parent.chmod(0o755)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def try_image(bundle: Path) -> None:
    """One worker without any writable disk, then two with a Redis and a writable /tmp."""
    with container(bundle) as one:
        check_confinement(one)
        check_reranks(one, bundle)
        print(f"one worker: {one.resident_mb():.0f} MB resident")
        run("podman", "healthcheck", "run", one.name)
        check_load(bundle)
        one.stop()
    with RedisServer() as redis:
        workers = ("-e", "RERANK_WORKERS=2", "-e", f"RERANK_REDIS_URL={redis.url}")
        with container(bundle, "--tmpfs", "/tmp", *workers) as two:
            check_reranks(two, bundle)
            print(f"two workers: {two.resident_mb():.0f} MB resident, their supervisor included")
            two.stop()


class Container:
    """A running service, on the port of the image's health check."""

    port = 8080

    def __init__(self, name: str) -> None:
        self.name = name

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())

    def pid(self) -> int:
        return int(run("podman", "inspect", "--format", "{{.State.Pid}}", self.name))

    def processes(self) -> list[int]:
        """Its first process and that one's children."""
        first = self.pid()
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def cpu_s(self) -> float:
        """Spent by all processes: what it takes to start on an idle core."""
        texts = [Path(f"/proc/{pid}/stat").read_text() for pid in self.processes()]
        fields = [text.rpartition(")")[2].split() for text in texts]  # the name before may hold anything
        return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Memory of all processes, each shared page counted once."""
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.processes()]
        return sum(int(re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE)[0]) for text in texts) / 1024

    def stop(self) -> None:
        """SIGTERM with a request under way, which has to be answered."""
        body = json.dumps({"items": [{"id": "1"}, {"id": "2"}]}).encode()
        head = f"POST /v1/rerank HTTP/1.1\r\nhost: t\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as open_request:
            open_request.sendall(head + body[:5])
            run("podman", "kill", "--signal", "TERM", self.name)
            time.sleep(0.5)
            open_request.sendall(body[5:])
            assert open_request.recv(20).startswith(b"HTTP/1.1 200"), "the open request was cut"
        assert run("podman", "wait", self.name) == "0", "the exit code after SIGTERM"


@contextmanager
def container(bundle: Path, *options: str) -> Iterator[Container]:
    """The image as docs/deployment.md runs it, ready to answer; its logs are shown if that fails."""
    name = run(
        "podman", "run", "--detach", *CONFINED, *ANONYMOUS, "-v", f"{bundle}:/bundle:ro", *options, IMAGE
    )
    service = Container(name)
    try:
        started = time.monotonic()
        until_ready("the container", lambda: service.ask("/readyz")[0] == 200)
        took_s, cpu_s = time.monotonic() - started, service.cpu_s()
        print(f"ready after {took_s:.1f} s and {cpu_s:.1f} s of CPU", flush=True)
        yield service
    except BaseException:
        subprocess.run(["podman", "logs", name], check=False)
        raise
    finally:
        run("podman", "rm", "--force", name)


def check_confinement(service: Container) -> None:
    """What the kernel says about the process, not what was requested."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{service.pid()}/status").read_text().splitlines()
    )
    assert int(status["Uid"].split()[0]) == 10001, status["Uid"]
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, "no capabilities"
    assert status["NoNewPrivs"] == "1"
    for folder in ("/app", "/venv", "/tmp", "/bundle"):
        code = f"open({folder + '/written'!r}, 'w')"
        written = subprocess.run(
            ["podman", "exec", service.name, "python", "-c", code],
            capture_output=True,
            text=True,
            check=False,
        )
        assert written.returncode != 0, f"{folder} can be written"
        assert "Read-only file system" in written.stderr or "Permission denied" in written.stderr, (
            written.stderr
        )
    installed = run(
        "podman", "exec", service.name, "python", "-c", "import os; print(os.listdir('/venv/bin'))"
    )
    assert "pip" not in installed


def check_reranks(service: Container, bundle: Path) -> None:
    """A list is re-ranked by the model, and feedback on it is in the user's context afterwards."""
    ids = [str(item) for item in np.load(bundle / "catalogue.npz")["ids"][:24]]
    asked = {"user_id": "somebody", "items": [{"id": item} for item in ids]}
    status, answer = service.ask("/v1/rerank", asked)
    assert (status, answer["fallback"]) == (200, None), answer
    ranked = [result["id"] for result in answer["results"]]
    assert len(ranked) == len(set(ranked)) > 0
    assert set(ranked) <= set(ids)
    click = {"type": "click", "item_id": ranked[0]}
    feedback = {"recommendation_id": answer["recommendation_id"], "events": [click]}
    assert service.ask("/v1/feedback", feedback)[0] == 202
    for _ in range(10):
        assert service.ask("/v1/rerank", asked)[1]["context"] == "hit", "whichever worker answers"


def check_load(bundle: Path) -> None:
    """Locust's image asks for five seconds, confined too: errors fail it, slowness does not."""
    options = ("--headless", "--users", "2", "--run-time", "5s", "--slo-p99-ms", "60000")
    options += ("--slo-fallback-ratio", "1")
    target = ("--host", f"http://127.0.0.1:{Container.port}")
    confined = (*CONFINED, "-v", f"{bundle}:/bundle:ro")
    run("podman", "run", "--rm", *confined, LOAD_IMAGE, *target, *options, stderr=subprocess.STDOUT)


def image_sizes(name: str) -> str:
    """As `docker images` counts it, and as it travels: every layer, gzip."""
    unpacked = int(run("podman", "image", "inspect", "--format", "{{.Size}}", name))
    with tempfile.TemporaryDirectory() as scratch:
        archive, packed = Path(scratch) / "image.tar", Path(scratch) / "image.tar.gz"
        run("podman", "save", "--quiet", "--output", archive, name)
        with archive.open("rb") as plain, gzip.open(packed, "wb", compresslevel=6) as target:
            shutil.copyfileobj(plain, target)
        travels = packed.stat().st_size
    return f"{unpacked / 1e6:.0f} MB unpacked, {travels / 1e6:.0f} MB compressed, the base included"


if __name__ == "__main__":
    sys.exit(main())
