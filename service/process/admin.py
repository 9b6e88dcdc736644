"""A second port of a worker, for what is not for callers: `app.state.admin`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from fastapi import FastAPI

from service.process.connections import Connections
from service.process.limited_server import LimitedServer
from service.process.listening import on_port
from service.settings import Settings

LAST_WORDS_S = 1
"""For answers under way when the port is closed."""

logger = logging.getLogger(__name__)


class _Listener(LimitedServer):
    """Signals are for the server of the first port."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def attach(app: FastAPI, settings: Settings) -> None:
    """Open the port, if it is set, once the application has started, and close it after the other one."""
    if settings.admin_port is None:
        return
    started, port = app.router.lifespan_context, settings.admin_port

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with started(app):
            try:
                bound = on_port(settings.admin_host, port, shared=settings.workers > 1)
                for one in bound:
                    one.listen()
            except OSError as error:
                logger.error("cannot bind %s port %d: %s", settings.admin_host, port, error)
                raise
            connections = Connections(app.state.service)
            config = connections.config(
                app.state.admin, lifespan="off", timeout_graceful_shutdown=LAST_WORDS_S
            )
            listener = _Listener(config, connections)
            serving = asyncio.create_task(listener.serve(sockets=bound))
            yield
            listener.should_exit = True
            await serving

    app.router.lifespan_context = lifespan
