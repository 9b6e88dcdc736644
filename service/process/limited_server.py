"""uvicorn's server, over connections within limits. Knows nothing of what is served there."""

import asyncio
from functools import partial
from socket import AF_UNIX, socket

import uvicorn

from service.process.connections import Connections

LOOK_TICKS = 5
"""Ticks, each of a tenth of a second, from one look for answers that nobody reads to the next."""


class LimitedServer(uvicorn.Server):
    """Limits the time for a TLS handshake, and ends connections whose callers do not read."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup([])
        for one in sockets or []:
            self.servers.append(await self._open(one))

    async def on_tick(self, counter: int) -> bool:
        if counter % LOOK_TICKS == 0:
            self._connections.end_unread()
        return await super().on_tick(counter)

    async def _open(self, one: socket) -> asyncio.Server:
        config, loop = self.config, asyncio.get_running_loop()
        protocol = partial(
            self._connections.protocol,
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        opening = loop.create_unix_server if one.family == AF_UNIX else loop.create_server
        handshake_s = self._connections.settings.header_timeout_s if config.is_ssl else None
        return await opening(
            protocol, sock=one, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=handshake_s
        )
