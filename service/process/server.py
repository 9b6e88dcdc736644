"""One worker: the application behind uvicorn, drained on a signal. Knows nothing of other workers.

On SIGTERM or SIGINT readiness fails first, for `drain_s`, while requests are still answered, each asking its
caller to connect elsewhere; then the port closes, and open requests get `shutdown_timeout_s` to finish. What
is open even then is answered without the model.
"""

import asyncio
import gc
import logging
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socket
from threading import Timer
from time import monotonic
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.api.request import Service
from service.app import create_app
from service.process import admin
from service.process.changes import Link
from service.process.connections import Connections
from service.process.limited_server import LimitedServer
from service.process.listening import STARTUP_FAILURE, address, listening, refuse_new_connections
from service.serving.changes import FAULTS
from service.serving.plan import Plan
from service.settings import Settings

LAST_ARRIVALS_S = 0.02
"""For accepting who has connected already, before the port is closed."""

LAST_WORDS_S = 1
"""For answers that are given without the model, before whatever still runs is cancelled."""

LAST_RESORT_S = 2
"""After which the process ends even if a thread of it, stuck in the model, does not."""

BEAT_S = 0.1
"""Between signs of life."""

OTHER_FILES = 256
"""That a worker may have open besides connections."""

logger = logging.getLogger(__name__)


class DrainingServer(LimitedServer):
    """Fails readiness before it closes the port. A second signal skips the wait; SIGHUP reloads the models.

    Objects made at start-up are exempt from garbage collection, because scanning them pauses every request.
    """

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config, connections)
        self._service = connections.service
        self._close_at = float("inf")
        self._asked_to_leave = self._hung_up = False

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        logger.info("listening on %s", ", ".join(map(address, sockets or [])))
        gc.collect()
        gc.freeze()

    async def _open(self, one: socket) -> asyncio.Server:
        try:
            one.listen(self.config.backlog)  # uvloop would say nothing
        except OSError as error:  # another service bound the port as well, and was ready before
            logger.error("cannot listen on %s: %s", address(one), error)
            await self.lifespan.shutdown()
            raise SystemExit(STARTUP_FAILURE) from error
        return await super()._open(one)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signal handler: takes notes, for `on_tick` to act on."""
        again = self._service.draining
        self._service.draining = True
        self._close_at = monotonic() + (0.0 if again else self._service.settings.drain_s)

    def hang_up(self, sig: int, frame: FrameType | None) -> None:
        """Handler of SIGHUP: as above."""
        self._hung_up = True

    async def on_tick(self, counter: int) -> bool:
        if self._hung_up:
            self._hung_up = False
            self._reloading = asyncio.create_task(self._reload())
        if self._service.draining and not self._asked_to_leave:
            self._asked_to_leave = True
            self._connections.drain()
        return await super().on_tick(counter) or monotonic() >= self._close_at

    async def _reload(self) -> None:
        before = self._service.models.plan
        with suppress(*FAULTS):  # which it has logged
            await self._service.changes.reload()
            if self._service.models.plan is before:
                logger.info("SIGHUP: nothing new to serve")

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        timeout_s = self._service.settings.shutdown_timeout_s
        refuse_new_connections(sockets or [])
        await asyncio.sleep(LAST_ARRIVALS_S)
        giving_up = asyncio.get_running_loop().call_later(timeout_s, self._give_up)
        await super().shutdown(sockets)
        giving_up.cancel()

    def _give_up(self) -> None:
        """Have open requests end: those at the model by their fallback, those half sent by an error."""
        self._connections.give_up()
        self._ending = asyncio.create_task(self._service.models.stop())
        last_resort = Timer(LAST_WORDS_S + LAST_RESORT_S, _abandon)
        last_resort.daemon = True
        last_resort.start()


Kind = Callable[[uvicorn.Config, Connections], DrainingServer]


def _abandon() -> None:
    logger.error("the process does not end by itself")
    os._exit(1)


class Worker(DrainingServer):
    """One of several: gives signs of life, takes part in changes of what is served, and drains as well when
    its supervisor is gone, so that none is ever left behind."""

    def __init__(
        self, config: uvicorn.Config, connections: Connections, link: Link, beat: Callable[[], None]
    ) -> None:
        super().__init__(config, connections)
        self._link, self._beat = link, beat
        supervisor = multiprocessing.parent_process()
        assert supervisor is not None
        self._supervisor = supervisor.pid

    async def startup(self, sockets: list[socket] | None = None) -> None:
        self._beating = asyncio.create_task(self._keep_beating())
        await super().startup(sockets)
        self._link.listen()

    async def _keep_beating(self) -> None:
        while True:
            if not self._service.is_stuck():
                self._beat()
            await asyncio.sleep(BEAT_S)

    async def on_tick(self, counter: int) -> bool:
        if os.getppid() != self._supervisor and not self._service.draining:
            self.handle_exit(signal.SIGTERM, None)
        return await super().on_tick(counter)


def serve(settings: Settings, plan: Plan) -> int:
    """Serve a plan alone until a signal, and return the exit code.

    Raises:
        SystemExit: with `STARTUP_FAILURE`, when the port or a bundle cannot be opened.
    """
    with listening(settings) as sockets:
        _run(settings, create_app(settings, plan=plan), sockets, DrainingServer)
    return 0


def work(
    settings: Settings,
    plan: Plan,
    sockets: list[socket],
    figures: Path,
    pipe: Connection,
    beat: Callable[[], None],
) -> int:
    """As `serve`, as one worker among several.

    Args:
        sockets: its own.
        figures: its file, see `service.observe.metrics`.
        pipe: to the supervisor, see `service.process.changes`.
        beat: called as long as the event loop turns and the model is not stuck.
    """
    app = create_app(settings, figures=figures, plan=plan)
    service: Service = app.state.service
    service.changes = link = Link(service.changes, pipe)
    _run(settings, app, sockets, partial(Worker, link=link, beat=beat))
    return 0


def _run(settings: Settings, app: FastAPI, sockets: list[socket], kind: Kind) -> None:
    ports = 1 if settings.admin_port is None else 2
    _allow_connections(ports * (settings.max_connections + settings.health_connections))
    admin.attach(app, settings)
    server = make_server(settings, app, kind)
    signal.signal(signal.SIGHUP, server.hang_up)
    server.run(sockets)


def make_server(settings: Settings, app: FastAPI, kind: Kind = DrainingServer) -> DrainingServer:
    """What serves an application within the limits of connections."""
    connections = Connections(app.state.service)
    config = connections.config(
        app,
        timeout_graceful_shutdown=settings.shutdown_timeout_s + LAST_WORDS_S,
    )
    return kind(config, connections)


def _allow_connections(wanted: int) -> None:
    """Raise the limit on open files as far as the system allows, lest connections end at that one."""
    wanted += OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        logger.warning("the limits on connections want %d open files, the system allows %d", wanted, hard)
        wanted = hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
