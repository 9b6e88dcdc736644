"""Faults of a fleet: three replicas behind HAProxy as in production, a cluster of Redis, an open loop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from time import sleep
from typing import TYPE_CHECKING

from faults.background import meanwhile
from faults.processes import NotInstalledError
from launch.debian import find
from launch.proxies import haproxy
from launch.redis import RedisCluster

if TYPE_CHECKING:
    from faults.scene import Scene
    from launch.service import ServiceProcess

REPLICAS, CALLERS = 3, 48
RATE = 60.0
"""Reranks a second, and as much feedback: two cores have the callers, the replicas and six nodes of Redis."""
SLOW_SHARE, SLOW_TURN_S = 0.8, 0.1


class Fleet:
    """Of one scene.

    Attributes:
        port: HAProxy's.
    """

    def __init__(self, scene: Scene, replicas: int = REPLICAS, *lines: str) -> None:
        """
        Args:
            lines: of HAProxy's backend, besides production's.

        Raises:
            NotInstalledError: HAProxy is not.
        """
        if find("haproxy") is None:
            raise NotInstalledError("haproxy")
        self._scene = scene
        self.cluster = scene.start(RedisCluster())
        self.replicas = [scene.serve("--redis-url", self.cluster.url) for _ in range(replicas)]
        ports = [replica.port for replica in self.replicas]
        self.port = scene.start(haproxy(scene.folder("proxy"), ports, *lines))

    def start_again(self, replica: ServiceProcess) -> None:
        """Once it has ended, on its port."""
        self._scene.serve("--redis-url", self.cluster.url, port=replica.port)


@contextmanager
def _fleet(scene: Scene) -> Iterator[Fleet]:
    """In the block it is broken, under load."""
    fleet = Fleet(scene)
    with scene.traffic(fleet.port, callers=CALLERS, rate=RATE):
        yield fleet


def fleet_whole(scene: Scene) -> None:
    """Of three replicas behind HAProxy nothing happens to any"""
    with _fleet(scene):
        sleep(4)


def fleet_replica_killed(scene: Scene) -> None:
    """One of three replicas behind HAProxy is killed, and started again"""
    with _fleet(scene) as fleet:
        replica = fleet.replicas[0]
        replica.process.kill()
        replica.until_ended()
        sleep(2)
        fleet.start_again(replica)


def fleet_replica_hangs(scene: Scene) -> None:
    """One of three replicas behind HAProxy stands still for six seconds, then goes on where it was"""
    with _fleet(scene) as fleet:
        process = fleet.replicas[0].process
        process.send_signal(signal.SIGSTOP)
        sleep(6)
        process.send_signal(signal.SIGCONT)
        sleep(2)


def fleet_replica_slow(scene: Scene) -> None:
    """One of three replicas behind HAProxy has a fifth of its time, for six seconds"""
    with _fleet(scene) as fleet, _slowed(fleet.replicas[0]):
        sleep(6)


def fleet_rolled(scene: Scene) -> None:
    """Three replicas behind HAProxy are restarted in turn"""
    with _fleet(scene) as fleet:
        for replica in fleet.replicas:
            replica.process.terminate()
            replica.until_ended()
            fleet.start_again(replica)
            sleep(2)


def fleet_cluster_fails_over(scene: Scene) -> None:
    """Behind three replicas a node of the cluster is killed, and its replica takes over"""
    with _fleet(scene) as fleet:
        fleet.cluster.nodes[2].stop()
        sleep(6)


def fleet_without_redis(scene: Scene) -> None:
    """Behind three replicas all nodes of the cluster stand still for three seconds"""
    with _fleet(scene) as fleet:
        with _standing_still([node.pid for node in fleet.cluster.nodes]):
            sleep(3)
        sleep(2)


@contextmanager
def _standing_still(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def _slowed(replica: ServiceProcess) -> Iterator[None]:
    """It stands still most of the time, in turns of a tenth of a second."""

    def slow(over: Event) -> None:
        while not over.is_set():
            with _standing_still([replica.process.pid]):
                over.wait(SLOW_SHARE * SLOW_TURN_S)
            over.wait((1 - SLOW_SHARE) * SLOW_TURN_S)

    with meanwhile(slow):
        yield


FAULTS = (
    fleet_whole,
    fleet_replica_killed,
    fleet_replica_hangs,
    fleet_replica_slow,
    fleet_rolled,
    fleet_cluster_fails_over,
    fleet_without_redis,
)
