"""Where a fault happens: servers that are started for it and ended after it, and its callers' traffic."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from time import sleep
from typing import TypeVar

from faults.traffic import Tally, Traffic
from launch.service import ServiceProcess
from loadtest.payloads import read_item_ids

Started = TypeVar("Started")

ROOM = "--max-history", "100000", "--max-history-bytes", "100000000", "--max-event-ids", "100000"
"""So that no event leaves a history before it has been looked for."""


class Scene:
    """Of one fault.

    Attributes:
        items: ids that the bundle knows.
        tally: what the callers saw, after the traffic.
        measured: what a fault measures by itself, to be set within the traffic.
        seconds: how long each part of the traffic takes: before the fault, and after it.
    """

    def __init__(self, bundle: Path, logs: Path, seconds: float) -> None:
        self.bundle, self.seconds = bundle, seconds
        self.items, self.tally = read_item_ids(bundle), Tally()
        self.measured: dict[str, str] = {}
        self._logs, self._stack, self._services = logs, ExitStack(), 0

    def start(self, server: AbstractContextManager[Started]) -> Started:
        """A server that ends with the scene."""
        return self._stack.enter_context(server)

    def folder(self, name: str) -> Path:
        """An empty one."""
        made = self._logs / name
        made.mkdir()
        return made

    def serve(
        self, *arguments: str, bundle: Path | None = None, port: int | None = None, **environment: str
    ) -> ServiceProcess:
        """A service of the scene's bundle, or another, that is ready; its log is beside those of others."""
        self._services += 1
        log = self._logs / f"service-{self._services}.log"
        made = ServiceProcess(bundle or self.bundle, *ROOM, *arguments, log=log, port=port, **environment)
        return self.start(made)

    @contextmanager
    def traffic(
        self, *ports: int, callers: int = 8, pause_s: float = 0.02, rate: float | None = None
    ) -> Iterator[Traffic]:
        """Callers ask before the block, during it and after it, for `seconds` on both sides."""
        with Traffic(ports, self.items, callers, pause_s, rate) as traffic:
            sleep(self.seconds)
            yield traffic
            sleep(self.seconds)
        self.tally = traffic.tally
        self.tally.measured |= self.measured

    def close(self) -> None:
        self._stack.close()
