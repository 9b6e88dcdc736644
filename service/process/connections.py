"""All connections of one worker: how many there are, and what is asked of all of them at once."""

import ssl
from typing import Any

import uvicorn
from fastapi import FastAPI

from service.api.request import Service
from service.process.connection import Connection


class Connections:
    """All connections of one worker. `protocol` makes the next one."""

    def __init__(self, service: Service) -> None:
        self.service, self.settings, self.metrics = service, service.settings, service.metrics
        self._open: dict[Connection, None] = {}
        self._spare: dict[Connection, None] = {}

    def config(self, app: FastAPI, **more: Any) -> uvicorn.Config:
        """How uvicorn serves an application over these connections."""
        settings = self.settings
        return uvicorn.Config(
            app,
            http=self.protocol,  # type: ignore[arg-type]
            ws="none",
            proxy_headers=False,
            loop="uvloop",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_s,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            ssl_ca_certs=None if settings.tls_client_ca is None else str(settings.tls_client_ca),
            ssl_cert_reqs=ssl.CERT_NONE if settings.tls_client_ca is None else ssl.CERT_REQUIRED,
            **more,
        )

    def protocol(self, **given: Any) -> Connection:
        """What uvicorn makes for each connection."""
        return Connection(self, **given)

    def opened(self, connection: Connection) -> bool:
        """Count it. Returns whether it is one too many, which is for health checks alone."""
        self.metrics.connections.inc()
        if len(self._open) < self.settings.max_connections:
            self._open[connection] = None
            return False
        self.metrics.refused.labels("connections").inc()
        self._spare[connection] = None
        if len(self._spare) > self.settings.health_connections:
            next(iter(self._spare)).transport.abort()
        return True

    def closed(self, connection: Connection) -> None:
        self.metrics.connections.dec()
        self._open.pop(connection, None)
        self._spare.pop(connection, None)

    def end_unread(self) -> None:
        """End the connections of callers who have left an answer unread for `answer_timeout_s`."""
        for connection in (*self._open, *self._spare):
            connection.end_unread()

    def drain(self) -> None:
        """Ask everybody to leave."""
        for connection in (*self._open, *self._spare):
            connection.drain()

    def give_up(self) -> None:
        """Answer the requests that have not arrived yet."""
        for connection in (*self._open, *self._spare):
            connection.give_up()
