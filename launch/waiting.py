"""A free port, and waiting until what was started on it is ready. Knows no server in particular."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import urlopen

INTERVAL_S = 0.05
START_S = 240.0
"""The first service on a machine compiles its functions, perhaps while others do."""
LAST_LINES = 20
"""Of its log, told of a server that did not start."""


class NotReadyError(RuntimeError):
    """The server ended, or was not ready in time."""


def free_port() -> int:
    """A loopback port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers_ok(url: str) -> bool:
    """Whether a GET is answered, and with 200. Raises: OSError: it is not."""
    with urlopen(url, timeout=10) as answer:
        return bool(answer.status == 200)


def until_ready(
    name: str,
    ready: Callable[[], bool],
    process: "subprocess.Popen[Any] | None" = None,
    *,
    log: Path | None = None,
    within_s: float = START_S,
) -> None:
    """Ask until the server says yes.

    Args:
        name: for the error.
        ready: an OSError, such as a refused connection, is a no.
        process: the server's; there is no use in asking once it ended.
        log: the server's; the error tells its end.

    Raises:
        NotReadyError: the process ended, or the time is over.
    """
    give_up = monotonic() + within_s
    while not _says_yes(ready):
        if process is not None and process.poll() is not None:
            raise NotReadyError(f"{name} ended with exit code {process.returncode}{_end_of(log)}")
        if monotonic() >= give_up:
            raise NotReadyError(f"{name} was not ready within {within_s:g} s{_end_of(log)}")
        sleep(INTERVAL_S)


def _says_yes(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except OSError:
        return False


def _end_of(log: Path | None) -> str:
    lines = [] if log is None else log.read_text(errors="replace").splitlines()
    return "".join(f"\n{line}" for line in lines[-LAST_LINES:])
