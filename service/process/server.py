"""One worker: the application behind uvicorn, drained on a signal. Knows nothing of other workers.

On SIGTERM or SIGINT readiness fails first, for `drain_s`, while requests are still answered; then the port
closes, open requests get `shutdown_timeout_s` to finish.
"""

import gc
import multiprocessing
import os
import signal
from pathlib import Path
from socket import socket
from time import monotonic
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.process import admin
from service.settings import Settings


class DrainingServer(uvicorn.Server):
    """Fails readiness before it closes the port. A second signal skips the wait.

    Objects made at start-up are exempt from garbage collection, because scanning them pauses every request.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_s: float) -> None:
        super().__init__(config)
        self._service, self._drain_s = app.state.service, drain_s
        self._close_at = float("inf")

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signal handler: takes notes, for `on_tick` to act on."""
        again = self._service.draining
        self._service.draining = True
        self._close_at = monotonic() + (0.0 if again else self._drain_s)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or monotonic() >= self._close_at


class Worker(DrainingServer):
    """One of several: drains as well when its supervisor is gone, so that none is ever left behind."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_s: float) -> None:
        super().__init__(config, app, drain_s)
        supervisor = multiprocessing.parent_process()
        assert supervisor is not None
        self._supervisor = supervisor.pid

    async def on_tick(self, counter: int) -> bool:
        if os.getppid() != self._supervisor and not self._service.draining:
            self.handle_exit(signal.SIGTERM, None)
        return await super().on_tick(counter)


def serve(settings: Settings, listener: socket | None = None, figures: Path | None = None) -> int:
    """Serve until a signal, and return the exit code.

    Args:
        listener: a bound socket to listen on, of one worker among several; without it, `settings.port`.
        figures: the file of one worker among several, see `service.observe.metrics`.

    Raises:
        SystemExit: with `uvicorn.config.STARTUP_FAILURE`, when the port or the bundle cannot be opened.
    """
    app = create_app(settings, figures=figures)
    admin.attach(app, settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
    if listener is None:
        DrainingServer(config, app, settings.drain_s).run()
    else:
        Worker(config, app, settings.drain_s).run(sockets=[listener])
    return 0
