"""A second port of a worker, for what is not for callers: `app.state.admin`."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from service.settings import Settings

logger = logging.getLogger(__name__)


class _Listener(uvicorn.Server):
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
            family = socket.AF_INET6 if ":" in settings.admin_host else socket.AF_INET
            try:
                bound = socket.create_server(
                    (settings.admin_host, port), family=family, reuse_port=settings.workers > 1
                )
            except OSError as error:
                logger.error("cannot bind %s port %d: %s", settings.admin_host, port, error)
                raise
            config = uvicorn.Config(
                app.state.admin, lifespan="off", log_config=None, access_log=False, server_header=False
            )
            listener = _Listener(config)
            serving = asyncio.create_task(listener.serve(sockets=[bound]))
            yield
            listener.should_exit = True
            await serving

    app.router.lifespan_context = lifespan
