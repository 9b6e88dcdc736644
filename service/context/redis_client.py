"""Clients of a Redis, by its address: one server, sentinels, or a cluster. All alike to the store.

They wait for ever and never try again: `wire` watches the time, and who asked decides what follows.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from service.context.address import RedisAddress

MAP_TIMEOUTS = 5
"""How long a node of a cluster has to tell the cluster's map, in times to connect."""

Command = Sequence[str | bytes | int]


class RedisClient(Protocol):
    """What the store needs of a Redis."""

    async def together(self, *commands: Command) -> list[Any]:
        """Send commands in one round trip. Returns each one's answer, or the `ResponseError` it got."""
        ...

    async def reconnect(self) -> None:
        """Close what is idle, so that the next command goes to who is the master then."""
        ...

    async def close(self) -> None: ...


def open_client(address: RedisAddress, connect_timeout_s: float, connections: int) -> RedisClient:
    """Does not connect yet.

    Args:
        connections: most at once; to each node, if there are several.
    """
    common: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "client_name": address.client_name,
        "protocol": address.protocol,
        "socket_timeout": None,
        "socket_connect_timeout": connect_timeout_s,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if address.mode == "cluster":
        return _Cluster(address, common, connections)
    common |= {"db": address.db, "retry": _never(), "max_connections": connections}
    tls = address.tls or {}
    if address.mode == "sentinel":
        assert address.service is not None
        sentinels = _sentinels(address, connect_timeout_s)
        managed = _SecureToMaster if address.tls is not None else _ToMaster
        pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
            address.service, sentinels, connection_class=managed, **common, **tls
        )
        return _Server(pool, sentinels)
    kind: type[AbstractConnection]
    if address.path is not None:
        kind, common["path"] = UnixDomainSocketConnection, address.path
    else:
        kind = Connection if address.tls is None else SSLConnection
        common["host"], common["port"] = address.hosts[0]
    return _Server(ConnectionPool(connection_class=kind, **common, **tls))


class _Server:
    """One server, or the master that sentinels name whenever a connection is opened."""

    def __init__(self, pool: ConnectionPool, sentinels: Sentinel | None = None) -> None:
        self._client, self._pool, self._sentinels = Redis(connection_pool=pool), pool, sentinels

    async def together(self, *commands: Command) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers: list[Any] = await pipe.execute(raise_on_error=False)
        return answers

    async def reconnect(self) -> None:
        await self._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        await self._client.aclose()
        await self._pool.aclose()
        if self._sentinels is not None:
            await self._sentinels.aclose()


class _Cluster:
    """The nodes of a cluster. Commands of one round trip may go to several, at the same time."""

    def __init__(self, address: RedisAddress, common: dict[str, Any], connections: int) -> None:
        self._learning: asyncio.Task[Any] | None = None
        # A node that hangs is not to be asked for the map for ever.
        common["socket_timeout"] = MAP_TIMEOUTS * common["socket_connect_timeout"]
        self._client = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            retry=_never(),
            max_connections=connections,
            require_full_coverage=False,
            reinitialize_steps=0,  # a new map closes connections in use: learn what moved slot by slot
            ssl=address.tls is not None,
            **common,
            **(address.tls or {}),
        )

    async def together(self, *commands: Command) -> list[Any]:
        await self._map_known()
        asked = (self._client.execute_command(*command) for command in commands)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        if all(isinstance(answer, BaseException) for answer in answers):
            raise answers[0]
        return answers

    async def _map_known(self) -> None:
        """Without its map the client asks nodes at random. Learning it takes longer than an answer may, so it
        goes on when whoever needs it has given up."""
        if self._client._initialize:
            if self._learning is None or self._learning.done():
                self._learning = asyncio.create_task(self._client.initialize())
                self._learning.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(self._learning)

    async def reconnect(self) -> None:
        """The client itself asks for the cluster's map after a redirection or a lost node."""

    async def close(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait((self._learning,))
        await self._client.aclose()
        for nodes in ("nodes_cache", "startup_nodes"):  # which stay open where the map was being asked for
            await self._client.nodes_manager.aclose(nodes)


class _ToMaster(SentinelManagedConnection):
    """Leaves READONLY an answer to one command. redis-py makes it a lost connection, and with it are lost
    the answers to the other commands of the round trip."""

    async def read_response(self, *arguments: Any, **named: Any) -> Any:
        return await super(SentinelManagedConnection, self).read_response(*arguments, **named)


class _SecureToMaster(_ToMaster, SSLConnection):
    pass


def _sentinels(address: RedisAddress, connect_timeout_s: float) -> Sentinel:
    """Asked one after the other. The first that answers is asked first the next time."""
    options: dict[str, Any] = {
        "socket_timeout": connect_timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        "protocol": address.protocol,
        "retry": _never(),
        **address.sentinel,
    }
    if address.tls is not None:
        options |= {"ssl": True, **address.tls}
    return Sentinel(address.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]


def _never() -> Retry:
    """The library's default tries ten times."""
    return Retry(NoBackoff(), 0)
