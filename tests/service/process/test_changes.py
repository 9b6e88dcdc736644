"""Changes of what two real workers serve: by both or by neither, and by those who come later."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from asking import asked_all_the_time, rerank
from eventually import eventually
from workers import Workers

from bundle.manifest import SLATE
from bundle.repository import point
from launch.bundles import copied
from launch.redis import RedisServer
from launch.service import ROOT

REQUESTS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("changes")


@pytest.fixture(scope="module")
def workers(bundle: Path, redis_process: RedisServer, folder: Path) -> Iterator[Workers]:
    """Of a model with three versions, of which the third is broken."""
    redis_process.start()
    for version in ("1", "2", "3"):
        copied(bundle, folder / "bundles", "films", version)
    (folder / "bundles/films/3" / SLATE).write_bytes(b"not a graph")
    point(folder / "bundles/films", "1")
    with Workers(folder / "bundles", redis_process.url, folder, "--drain-s", "0") as workers:
        yield workers
    assert workers.process.returncode == 0, workers.log.read_text()


def served(workers: Workers) -> set[str]:
    """The versions that answer, whichever worker is asked."""
    return {rerank(workers).json()["model_version"] for _ in range(REQUESTS)}


def admin(workers: Workers, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.admin", "--url", workers.url, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def ask(workers: Workers, method: str, path: str, body: Any = None) -> httpx.Response:
    return httpx.request(method, f"{workers.url}/v1/models{path}", json=body, timeout=120)


def test_all_of_them_change_and_go_back(workers: Workers) -> None:
    loaded = admin(workers, "load", "films", "2")
    rows = [line.split()[:3] for line in loaded.stdout.splitlines()]
    assert rows == [["model", "version", "share"], ["films", "1", "1"], ["films", "2", "0"]], loaded
    assert served(workers) == {"1"}
    assert admin(workers, "shares", "films", "2=1").returncode == 0
    assert served(workers) == {"2"}
    assert admin(workers, "shadow", "films", "1", "--share", "0.5").returncode == 0
    assert "films 1 (0.5)" in admin(workers, "list").stdout
    assert admin(workers, "shadow", "films").returncode == 0
    assert admin(workers, "rollback", "films").returncode == 0
    assert served(workers) == {"1"}
    assert admin(workers, "default", "films").returncode == 0
    assert admin(workers, "unload", "films", "2").returncode == 0
    nowhere = admin(workers, "rollback", "films")
    assert nowhere.returncode == 1
    assert "409: films was not changed since the service started" in nowhere.stderr


def test_what_one_cannot_load_none_serves(workers: Workers) -> None:
    refused = ask(workers, "POST", "/films/versions/3:load")
    assert refused.status_code == 422
    assert "does not match its sha256" in refused.json()["error"]
    assert "the models stay as they are" in workers.log.read_text()
    assert served(workers) == {"1"}


async def test_a_worker_that_comes_later_serves_the_same(workers: Workers) -> None:
    assert ask(workers, "POST", "/films/versions/2:load").status_code == 200
    assert ask(workers, "PUT", "/films/shares", {"shares": {"2": 1}}).status_code == 200
    victim = min(workers.pids())
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: victim not in workers.pids() and workers.listening() == 2)
    assert served(workers) == {"2"}, "though the repository names 1"
    assert ask(workers, "POST", "/films:rollback").status_code == 200
    assert served(workers) == {"1"}


async def test_sighup_follows_the_pointer(workers: Workers, folder: Path) -> None:
    point(folder / "bundles/films", "2")
    os.kill(workers.process.pid, signal.SIGHUP)
    await eventually(lambda: served(workers) == {"2"})
    point(folder / "bundles/films", "3")
    os.kill(workers.process.pid, signal.SIGHUP)
    await eventually(lambda: "slate.onnx does not match its sha256" in workers.log.read_text())
    assert served(workers) == {"2"}
    point(folder / "bundles/films", "1")
    os.kill(workers.process.pid, signal.SIGHUP)
    await eventually(lambda: served(workers) == {"1"})


def test_swaps_fail_nobody(workers: Workers) -> None:
    with asked_all_the_time(workers) as codes:
        for version, other in (("2", "1"), ("1", "2")):
            ask(workers, "POST", f"/films/versions/{version}:load")
            assert ask(workers, "PUT", "/films/shares", {"shares": {version: 1}}).status_code == 200
            assert served(workers) == {version}
            assert ask(workers, "POST", f"/films/versions/{other}:unload").status_code == 200
    assert set(codes) == {200}
