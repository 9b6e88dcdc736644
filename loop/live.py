"""The service that the loop runs around: a process of its own, with its store and its decision log."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from launch.redis import RedisServer
from launch.service import ROOT, ServiceProcess
from launch.waiting import free_port
from loop.traffic import LoopError

FLUSH_S = 0.2
"""Longest that a line of the decision log waits."""

PATIENT = (
    *("--redis-socket-timeout-ms", "2000", "--redis-connect-timeout-ms", "2000"),
    *("--redis-pool-wait-ms", "2000", "--drain-s", "0"),
)
"""Training, callers and service share the machine; a person who could not be looked up would be nobody."""


class LiveService:
    """`with LiveService(...) as live:` it is ready, and what people were shown outlives a restart of it.

    Attributes:
        port: of the service, the same after a restart.
        decisions: directory of its decision log.
    """

    def __init__(self, models: Path, folder: Path, share: float, temperature: float) -> None:
        """
        Args:
            models: folder of the versions of one model.
            folder: for decisions and logs of the process.
            share, temperature: of exploration.
        """
        self.port, self.decisions = free_port(), folder / "decisions"
        self._models, self._folder, self._starts = models, folder, 0
        self._stack, self._redis = ExitStack(), RedisServer()
        self._service: ServiceProcess | None = None
        explores = (
            *("--exploration-share", str(share), "--exploration-temperature", str(temperature)),
            *("--exploration-stickiness", "request"),  # who is sent a list again gets the same one
        )
        self._explores = explores if share else ()

    def restart(self) -> None:
        """In good order; meanwhile nobody answers."""
        assert self._service is not None
        self._service.stop()
        self._start()

    def promote(self) -> None:
        """Have the current version of the model served, beside the traffic.

        Raises:
            LoopError: it cannot be.
        """
        command = [sys.executable, "-m", "service.admin", "--url", f"http://127.0.0.1:{self.port}", "reload"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoopError(f"the new version is not served: {done.stderr.strip()}")

    def _start(self) -> None:
        self._starts += 1
        self._service = ServiceProcess(
            self._models,
            *("--redis-url", self._redis.url, *PATIENT, *self._explores),
            *("--decision-log", str(self.decisions), "--decision-log-flush-s", str(FLUSH_S)),
            log=self._folder / f"service-{self._starts}.log",
            port=self.port,
        )
        self._service.until_ready()

    def _stop(self) -> None:
        if self._service is not None:
            self._service.stop()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._redis)
            stack.callback(self._stop)
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
