"""The service as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from launch.waiting import answers_ok, free_port, until_ready

ROOT = Path(__file__).parents[1]
STOP_S = 60.0
"""What it gets to end in good order, the longest drain that it may have been told to keep included."""


class ServiceProcess:
    """`python -m service` on a free loopback port. `with ServiceProcess(bundle) as service:` waits until it
    is ready, and ends it.

    Attributes:
        url: what paths come after.
        process: running, or ended.
    """

    def __init__(
        self,
        bundle: Path,
        *arguments: str,
        log: Path | None = None,
        port: int | None = None,
        **environment: str,
    ) -> None:
        """Start it.

        Args:
            arguments: of its command line.
            log: where its log goes, instead of this process's stderr.
            port: instead of a free one.
            environment: variables besides this process's own.
        """
        self.port, self._log = port or free_port(), log
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = ["-m", "service", "--bundle", str(bundle), "--port", str(self.port), *arguments]
        stderr = None if log is None else log.open("w")
        try:
            self.process = subprocess.Popen(
                [sys.executable, *self.command], cwd=ROOT, stderr=stderr, env={**os.environ, **environment}
            )
        finally:
            if stderr is not None:
                stderr.close()

    def until_ready(self) -> None:
        """Raises: NotReadyError: it ended, or was not ready in time."""
        until_ready("the service", lambda: answers_ok(f"{self.url}/readyz"), self.process, log=self._log)

    def until_ended(self) -> int:
        """Its exit code, once it has ended by itself or by a signal."""
        return self.process.wait(STOP_S)

    def stop(self) -> None:
        """End it, in good order if it can."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        try:
            self.until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
