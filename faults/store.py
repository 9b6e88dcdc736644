"""Faults of the context store."""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING

from faults.proxy import BadNetwork
from launch.redis import RedisCluster, RedisSentinels, RedisServer

if TYPE_CHECKING:
    from faults.scene import Scene


def hangs(scene: Scene) -> None:
    """Redis answers nothing for two seconds"""
    redis = scene.start(RedisServer())
    service = scene.serve("--redis-url", redis.url)
    with scene.traffic(service.port), redis.hung():
        sleep(2)


def restarts(scene: Scene) -> None:
    """Redis is killed and, after a second, started again with its data"""
    folder = scene.folder("redis")
    redis = scene.start(RedisServer("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always"))
    service = scene.serve("--redis-url", redis.url)
    with scene.traffic(service.port):
        redis.stop()
        sleep(1)
        redis.start()


def bad_network(scene: Scene) -> None:
    """The network to Redis delays by up to 30 ms and cuts every fiftieth piece, for three seconds"""
    redis = scene.start(RedisServer())
    network = scene.start(BadNetwork(redis.port))
    service = scene.serve("--redis-url", f"redis://127.0.0.1:{network.port}/0")
    with scene.traffic(service.port):
        network.delay_s, network.cut = 0.03, 0.02
        sleep(3)
        network.delay_s, network.cut = 0.0, 0.0


def connections_killed(scene: Scene) -> None:
    """Every connection to Redis is killed, twenty times"""
    redis = scene.start(RedisServer())
    service = scene.serve("--redis-url", redis.url)
    with scene.traffic(service.port):
        for _ in range(20):
            redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            sleep(0.1)


def read_only(scene: Scene) -> None:
    """Redis refuses writes (READONLY) for two seconds"""
    master, redis = scene.start(RedisServer()), scene.start(RedisServer())
    service = scene.serve("--redis-url", redis.url)
    with scene.traffic(service.port):
        # Of a master that holds nothing it would take the nothing: this one is not there.
        master.stop()
        redis.client.replicaof("127.0.0.1", master.port)
        sleep(2)
        redis.client.replicaof("NO", "ONE")


def full(scene: Scene) -> None:
    """Redis is out of memory for two seconds"""
    redis = scene.start(RedisServer("--maxmemory-policy", "noeviction"))
    service = scene.serve("--redis-url", redis.url)
    with scene.traffic(service.port):
        redis.client.config_set("maxmemory", 1)
        sleep(2)
        redis.client.config_set("maxmemory", 0)


def no_connections_left(scene: Scene) -> None:
    """Redis takes no new connections and has lost the old ones, for two seconds"""
    redis = scene.start(RedisServer())
    service = scene.serve("--redis-url", redis.url)
    with scene.traffic(service.port):
        redis.client.config_set("maxclients", 1)
        redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        sleep(2)
        redis.client.config_set("maxclients", 1000)


def master_lost(scene: Scene) -> None:
    """The master is killed, and sentinels promote its replica"""
    sentinels = scene.start(RedisSentinels("master", down_after_ms=200))
    service = scene.serve("--redis-url", sentinels.url)
    with scene.traffic(service.port):
        assert sentinels.master.client.wait(1, 5000) == 1, "replicated"
        sentinels.master.stop()
        sleep(8)


def master_changed(scene: Scene) -> None:
    """Master and replica change places, both alive"""
    sentinels = scene.start(RedisSentinels("master", down_after_ms=60_000))
    service = scene.serve("--redis-url", sentinels.url)
    with scene.traffic(service.port):
        sentinels.fail_over()
        sleep(3)


def node_lost(scene: Scene) -> None:
    """A node of a cluster is killed, and its replica takes over"""
    cluster = scene.start(RedisCluster())
    service = scene.serve("--redis-url", cluster.url)
    with scene.traffic(service.port):
        cluster.nodes[2].stop()
        sleep(6)


FAULTS = (
    hangs,
    restarts,
    bad_network,
    connections_killed,
    read_only,
    full,
    no_connections_left,
    master_lost,
    master_changed,
    node_lost,
)
