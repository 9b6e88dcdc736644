"""Faults of the service's own processes, and their ordinary coming and going."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

import psutil

from launch.redis import RedisServer
from launch.waiting import answers_ok, free_port, until_ready

if TYPE_CHECKING:
    from faults.scene import Scene
    from launch.service import ServiceProcess


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
            sleep(3)


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

    def configuration(port: int, replicas: list[int]) -> str:
        servers = "".join(f"  server s{port} 127.0.0.1:{port} check inter 200ms\n" for port in replicas)
        return f"""defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
listen service
  bind 127.0.0.1:{port}
  option httpchk GET /readyz
{servers}"""

    _restarted(scene, lambda folder: ["haproxy", "-f", str(folder)], configuration)


def replicas_restarted_behind_nginx(scene: Scene) -> None:
    """Two replicas are restarted in turn behind nginx, which asks for nothing"""

    def configuration(port: int, replicas: list[int]) -> str:
        servers = "".join(f"    server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;\n" for port in replicas)
        return f"""daemon off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  upstream service {{
{servers}    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""

    _restarted(scene, lambda file: ["nginx", "-p", str(file.parent), "-c", str(file)], configuration)


def _restarted(
    scene: Scene,
    command: Callable[[Path], list[str]] | None = None,
    configuration: Callable[[int, list[int]], str] | None = None,
) -> None:
    """Restart two replicas in turn, behind a proxy if there is a command for one."""
    redis = scene.start(RedisServer())
    replicas = [scene.serve("--redis-url", redis.url) for _ in range(2)]
    ports = [replica.port for replica in replicas]
    if command is not None and configuration is not None:
        file, front = scene.folder("proxy") / "configuration", free_port()
        file.write_text(configuration(front, ports))
        scene.start(_proxy(command(file), front))
        ports = [front]
    with scene.traffic(*ports, callers=16, pause_s=0.0):
        for replica in replicas:
            replica.process.terminate()
            replica.until_ended()
            scene.serve("--redis-url", redis.url, port=replica.port)
            sleep(1)


@contextmanager
def _proxy(command: list[str], port: int) -> Iterator[None]:
    """Raises: NotInstalledError: it is not installed."""
    if shutil.which(command[0]) is None:
        raise NotInstalledError(command[0])
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until_ready(command[0], lambda: answers_ok(f"http://127.0.0.1:{port}/readyz"), process)
        yield
    finally:
        process.terminate()
        process.wait()


FAULTS = (
    nothing,
    stalls,
    worker_killed,
    worker_hangs,
    disk_full,
    replicas_restarted,
    replicas_restarted_behind_haproxy,
    replicas_restarted_behind_nginx,
)


def _workers(service: ServiceProcess) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(service.process.pid).children()
    assert len(found) == 2, "a worker is a child of the supervisor"
    return found
