"""Faults of the service's own processes, and their ordinary coming and going."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import psutil

from bundle.repository import point
from launch.bundles import copied
from launch.debian import find
from launch.proxies import PROXIES
from launch.redis import RedisServer
from launch.waiting import until_ready

if TYPE_CHECKING:
    from faults.scene import Scene
    from launch.service import ServiceProcess


SWAPS, SLOW_S = 100, 0.1


class NotInstalledError(Exception):
    """What a fault needs is not on this machine; the message says what."""


def nothing(scene: Scene) -> None:
    """Nothing happens"""
    redis = scene.start(RedisServer())
    service = scene.serve("--redis-url", redis.url)
    with scene.traffic(service.port):
        sleep(2)


def stalls(scene: Scene) -> None:
    """The service stands still for 50 ms, forty times"""
    redis = scene.start(RedisServer())
    service = scene.serve("--redis-url", redis.url)
    with scene.traffic(service.port):
        for _ in range(40):
            service.process.send_signal(signal.SIGSTOP)
            sleep(0.05)
            service.process.send_signal(signal.SIGCONT)
            sleep(0.05)


def worker_killed(scene: Scene) -> None:
    """One of two workers is killed, twice"""
    redis = scene.start(RedisServer())
    service = scene.serve("--redis-url", redis.url, "--workers", "2")
    with scene.traffic(service.port):
        for _ in range(2):
            _workers(service)[0].kill()
            until_ready("one of two workers", lambda: _listening(service) == 2)


def worker_hangs(scene: Scene) -> None:
    """One of two workers hangs"""
    redis = scene.start(RedisServer())
    service = scene.serve("--redis-url", redis.url, "--workers", "2")
    with scene.traffic(service.port):
        _workers(service)[0].send_signal(signal.SIGSTOP)
        sleep(12)


def disk_full(scene: Scene) -> None:
    """The disk that two workers write their metrics to is full"""
    folder = Path(scene.folder("metrics"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False).returncode:
        raise NotInstalledError("mount (root)")
    try:
        redis = scene.start(RedisServer())
        service = scene.serve(
            "--redis-url", redis.url, "--workers", "2", PROMETHEUS_MULTIPROC_DIR=str(folder)
        )
        with scene.traffic(service.port):
            (folder / "filler").write_bytes(b"x" * (os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize))
            sleep(3)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def replicas_restarted(scene: Scene) -> None:
    """Two replicas are restarted in turn; callers connect to either, and leave when they are asked to"""
    _restarted(scene)


def replicas_restarted_behind_haproxy(scene: Scene) -> None:
    """Two replicas are restarted in turn behind HAProxy, which asks for `/readyz`"""
    _restarted(scene, "haproxy")


def replicas_restarted_behind_nginx(scene: Scene) -> None:
    """Two replicas are restarted in turn behind nginx, which asks for nothing"""
    _restarted(scene, "nginx")


def _restarted(scene: Scene, proxy: str | None = None) -> None:
    """Raises: NotInstalledError: the proxy is not."""
    if proxy is not None and find(proxy) is None:
        raise NotInstalledError(proxy)
    redis = scene.start(RedisServer())
    replicas = [scene.serve("--redis-url", redis.url) for _ in range(2)]
    ports = [replica.port for replica in replicas]
    if proxy is not None:
        ports = [scene.start(PROXIES[proxy](scene.folder("proxy"), ports))]
    with scene.traffic(*ports, callers=16, pause_s=0.0):
        for replica in replicas:
            replica.process.terminate()
            replica.until_ended()
            scene.serve("--redis-url", redis.url, port=replica.port)
            sleep(1)


def models_swapped(scene: Scene) -> None:
    """Two versions of the model take turns in two workers, a hundred times"""
    redis = scene.start(RedisServer())
    models = scene.folder("models")
    for version in ("1", "2"):
        copied(scene.bundle, models, "model", version)
    point(models / "model", "1")
    service = scene.serve("--redis-url", redis.url, "--workers", "2", bundle=models)
    with scene.traffic(service.port) as traffic:
        begun, settled = monotonic(), 0.0
        for number in range(SWAPS):
            version = str(2 - number % 2)
            point(models / "model", version)
            with urlopen(Request(f"{service.url}/v1/models:reload", method="POST")) as answer:
                (served,) = json.load(answer)["models"]
            assert served["version"] == version
            if number == SWAPS // 4:
                settled = _resident_mib(service)
        grown, took = _resident_mib(service) - settled, monotonic() - begun
        slow = traffic.tally.slower_than(SLOW_S)
        scene.measured = {
            f"slower than {1000 * SLOW_S:g} ms": str(slow),
            "seconds a swap": f"{took / SWAPS:.2f}",
            "MiB grown in the last three quarters": f"{grown:.0f}",
        }


FAULTS = (
    nothing,
    stalls,
    worker_killed,
    worker_hangs,
    disk_full,
    models_swapped,
    replicas_restarted,
    replicas_restarted_behind_haproxy,
    replicas_restarted_behind_nginx,
)


def _resident_mib(service: ServiceProcess) -> float:
    return float(sum(worker.memory_info().rss for worker in _workers(service))) / 2**20


def _listening(service: ServiceProcess) -> int:
    """Workers that take connections."""
    found = 0
    for worker in psutil.Process(service.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            found += any(one.status == psutil.CONN_LISTEN for one in worker.net_connections("inet"))
    return found


def _workers(service: ServiceProcess) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(service.process.pid).children()
    assert len(found) == 2, "a worker is a child of the supervisor"
    return found
