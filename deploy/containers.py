"""Images and running containers of the service, by buildah and podman: what `container_test` works with."""

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launch.waiting import NotReadyError, until_ready

ROOT = Path(__file__).resolve().parents[1]
ANONYMOUS = ("-e", "RERANK_ALLOW_ANONYMOUS=true", "-e", "RERANK_DEFAULT_DEADLINE_MS=10000")
"""And patient, so that a busy machine fails nothing."""
IMAGE, LOAD_IMAGE = "localhost/eglr-reranker:container-test", "localhost/eglr-reranker-load:container-test"
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


class Container:
    """A running service, on the port of the image's health check."""

    port = 8080

    def __init__(self, name: str, key: str = "") -> None:
        """`key` is an API key, if callers need one."""
        self.name, self._key = name, key

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """The status and the JSON of an answer that is no error."""
        content = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self._request(path, content), timeout=10) as answer:
            return answer.status, json.loads(answer.read())

    def read(self, path: str) -> bytes:
        with urllib.request.urlopen(self._request(path), timeout=10) as answer:
            content: bytes = answer.read()
        return content

    def _request(self, path: str, content: bytes | None = None) -> urllib.request.Request:
        headers = {"content-type": "application/json"} | ({"x-api-key": self._key} if self._key else {})
        return urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", content, headers)

    def administer(self, *command: str) -> None:
        """`python -m service.admin`, in the container."""
        key = ("--env", f"RERANK_ADMIN_KEY={self._key}")
        run("podman", "exec", *key, self.name, "python", "-m", "service.admin", *command)

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
        key = f"x-api-key: {self._key}\r\n" if self._key else ""
        head = f"POST /v1/rerank HTTP/1.1\r\nhost: t\r\n{key}content-length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as open_request:
            open_request.sendall(head + body[:5])
            run("podman", "kill", "--signal", "TERM", self.name)
            time.sleep(0.5)
            open_request.sendall(body[5:])
            assert open_request.recv(20).startswith(b"HTTP/1.1 200"), "the open request was cut"
        assert run("podman", "wait", self.name) == "0", "the exit code after SIGTERM"


@contextmanager
def container(bundle: Path, *options: str, key: str = "") -> Iterator[Container]:
    """The image as docs/deployment.md runs it, ready to answer; its logs are shown if that fails."""
    name = run(
        "podman", "run", "--detach", *CONFINED, *ANONYMOUS, "-v", f"{bundle}:/bundle:ro", *options, IMAGE
    )
    service = Container(name, key)
    try:
        started, first = time.monotonic(), Path(f"/proc/{service.pid()}/stat")

        def ready() -> bool:
            if not first.exists():  # nor for process 0, which is that of a container that ended
                raise NotReadyError("the container ended")
            return service.ask("/readyz")[0] == 200

        until_ready("the container", ready)
        took_s, cpu_s = time.monotonic() - started, service.cpu_s()
        print(f"ready after {took_s:.1f} s and {cpu_s:.1f} s of CPU", flush=True)
        yield service
    except BaseException:
        subprocess.run(["podman", "logs", name], check=False)
        raise
    finally:
        run("podman", "rm", "--force", name)
