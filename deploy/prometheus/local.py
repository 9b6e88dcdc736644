"""Prometheus on this machine, with this folder's rules, for the tests and for use without containers.

    python -m deploy.prometheus.local                            # fetches the binaries if necessary
    python -m deploy.prometheus.local --target 127.0.0.1:8080    # and watches a service, until Ctrl-C

Found on the PATH, else taken from Debian's package, unpacked under `build/`, which needs no root.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from launch.waiting import answers_ok, until_ready

FOLDER = Path(__file__).parent
BUILD = FOLDER.parents[1] / "build" / "prometheus"


class PrometheusMissingError(Exception):
    """Neither found nor available; the message says what to install."""


def binary(name: str) -> str:
    """`prometheus` or `promtool`.

    Raises:
        PrometheusMissingError: it is neither on the PATH nor under `build/`.
    """
    found = shutil.which(name) or shutil.which(name, path=str(BUILD / "usr" / "bin"))
    if found is None:
        raise PrometheusMissingError(
            f"{name} is missing: `make prometheus` gets it on Debian and Ubuntu; elsewhere install "
            "Prometheus 2.42 or newer, so that it and promtool are on the PATH"
        )
    return found


def get() -> None:
    """Make `binary` find both.

    Raises:
        PrometheusMissingError: this machine has no apt, or apt has no such package.
    """
    try:
        binary("prometheus"), binary("promtool")
        return
    except PrometheusMissingError:
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise
    BUILD.mkdir(parents=True, exist_ok=True)
    download = ["apt-get", "download", "-qq", "prometheus"]
    if _run(download) and os.geteuid() == 0:  # a fresh machine may have no package lists yet
        _run(["apt-get", "update", "-qq"])
        _run(download)
    for package in BUILD.glob("prometheus_*.deb"):
        _run(["dpkg", "-x", str(package), "."])
        package.unlink()
    binary("prometheus"), binary("promtool")


def _run(command: list[str]) -> int:
    return subprocess.run(command, cwd=BUILD, check=False).returncode


class Prometheus:
    """`with Prometheus("127.0.0.1:8080", port=9090) as prometheus`: the folder's configuration, running.

    Changed for it: the target of the job `rerank`, Prometheus's own port and links, the intervals, and that
    alerts go nowhere.
    """

    def __init__(self, target: str, port: int, interval_s: int = 15, alerts_wait: bool = True) -> None:
        """Without `alerts_wait` what an alert is about need not last before it fires."""
        self.address = f"http://127.0.0.1:{port}"
        self._target, self._port, self._interval = target, port, f"{interval_s}s"
        self._alerts_wait = alerts_wait
        self._client = httpx.Client(base_url=self.address, timeout=30)

    def __enter__(self) -> Self:
        self._directory = TemporaryDirectory(prefix="prometheus-")
        folder = Path(self._directory.name)
        shutil.copytree(FOLDER / "rules", folder / "rules")
        if not self._alerts_wait:
            alerts = folder / "rules" / "alerts.yml"
            alerts.write_text(re.sub(r"^( +for:) .*$", r"\1 0s", alerts.read_text(), flags=re.MULTILINE))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self._configuration()))
        self._process = subprocess.Popen(
            [
                binary("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                f"--web.user-assets={FOLDER.parents[1] / 'docs'}",
                "--log.level=warn",
            ],
        )
        try:
            until_ready("prometheus", lambda: answers_ok(f"{self.address}/-/ready"), self._process)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._client.close()
        self._directory.cleanup()

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Samples of an expression, now."""
        return list(self.get("query", query=expr)["result"])

    def query_range(self, expr: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """Series of an expression, unix seconds."""
        return list(self.get("query_range", query=expr, start=start, end=end, step=step_s)["result"])

    def get(self, path: str, **parameters: Any) -> Any:
        """`data` of an answer of the HTTP API. Raises: ValueError: Prometheus refuses the expression."""
        answer = self._client.get(f"/api/v1/{path}", params=parameters)
        if answer.status_code == 400:
            raise ValueError(f"{answer.json()['error']}: {parameters}")
        return answer.raise_for_status().json()["data"]

    def _configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        intervals = {"scrape_interval": self._interval, "evaluation_interval": self._interval}
        configuration["global"] |= intervals
        configuration["global"]["external_labels"]["runbook"] = f"{self.address}/user/runbook.md"
        del configuration["alerting"]["alertmanagers"]
        targets = {"rerank": self._target, "prometheus": f"127.0.0.1:{self._port}"}
        for job in configuration["scrape_configs"]:
            job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
        return configuration


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.prometheus.local", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--target", help="host:port of a service to watch")
    parser.add_argument("--port", type=int, default=9090, help="Prometheus's own")
    parser.add_argument("--interval-s", type=int, default=15, help="of scrapes and evaluations")
    arguments = parser.parse_args()
    try:
        get()
    except PrometheusMissingError as error:
        sys.exit(str(error))
    if arguments.target is None:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that Prometheus ends too
    with Prometheus(arguments.target, arguments.port, arguments.interval_s) as prometheus:
        print(f"{prometheus.address} watches {arguments.target}")
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
