"""The sockets that the service listens on: a port on every address of its host, or a unix socket.

Knows nothing of what is served there.
"""

import ctypes
import errno
import logging
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from service.settings import Settings

STARTUP_FAILURE = 3
"""The exit code of a process that could not start: the same as uvicorn's."""

SO_ATTACH_FILTER = 26
"""Linux's, which Python does not name."""

# Of a packet, seen from its TCP header on: drop it if the flag SYN is set, else take it whole. The fields of
# an instruction of the classic packet filter: code, jump if true, jump if false, operand.
NO_NEW_CONNECTIONS = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))

logger = logging.getLogger(__name__)


@contextmanager
def listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """Sockets that are bound, but not open: who serves listens on them once it is ready.

    Several workers each need sockets `of_worker`, for from one shared socket the first to wake takes a whole
    burst of connections, and keeps them.

    Raises:
        SystemExit: they cannot be had.
    """
    with ExitStack() as stack:
        place = f"{settings.host} port {settings.port}"
        try:
            if settings.uds is not None:
                place = str(settings.uds)
                sockets = [stack.enter_context(_unix_socket(settings.uds))]
            else:
                sockets = on_port(settings.host, settings.port, shared=False)
            if settings.workers > 1:
                # A service already there would silently share its requests with this one, so this came first.
                if settings.uds is None:
                    port = sockets[0].getsockname()[1]
                    close(sockets)
                    sockets = on_port(settings.host, port, shared=True)
                if settings.admin_port is not None:
                    place = f"{settings.admin_host} port {settings.admin_port}"
                    close(on_port(settings.admin_host, settings.admin_port, shared=False))
        except OSError as error:
            logger.error("cannot bind %s: %s", place, error)
            raise SystemExit(STARTUP_FAILURE) from error
        if settings.uds is None:
            stack.callback(close, sockets)
        yield sockets


def of_worker(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """A worker's own on the same port (SO_REUSEPORT). A unix socket can only be shared."""
    return [
        one if one.family == socket.AF_UNIX else _bound(one.family, one.getsockname(), shared=True)
        for one in sockets
    ]


def close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()


def refuse_new_connections(sockets: Sequence[socket.socket]) -> None:
    """From now on nobody's connection is begun, while those that wait to be accepted still are.

    A port that is closed resets them, although their requests may have been sent. Callers whom it keeps
    waiting try again after a second, and find the port closed. Does nothing where Linux is not beneath.
    """
    code = b"".join(
        operation.to_bytes(2, "little") + bytes((true, false)) + operand.to_bytes(4, "little")
        for operation, true, false, operand in NO_NEW_CONNECTIONS
    )
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    program = bytes(Program(len(NO_NEW_CONNECTIONS), ctypes.addressof(buffer)))
    for one in sockets:
        if one.family != socket.AF_UNIX:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def address(one: socket.socket) -> str:
    """For people to read."""
    if one.family == socket.AF_UNIX:
        return str(one.getsockname())
    host, port = one.getsockname()[:2]
    return f"[{host}]:{port}" if one.family == socket.AF_INET6 else f"{host}:{port}"


def on_port(host: str, port: int, shared: bool) -> list[socket.socket]:
    """On each address of the host. Raises: OSError: on none of them, or one is taken."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, where in dict.fromkeys((family, where) for family, _, _, _, where in found):
        if sockets:  # a port that was picked is the same on all
            port = sockets[0].getsockname()[1]
        try:
            sockets.append(_bound(family, (where[0], port, *where[2:]), shared))
        except OSError as error:
            missing = error
            if error.errno != errno.EADDRNOTAVAIL:  # such as ::1 of `localhost`, on a machine without IPv6
                close(sockets)
                raise
    if not sockets and missing is not None:
        raise missing
    return sockets


def _bound(family: int, where: Any, shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, where[0] != "::")
        bound.bind(where)
    except OSError:
        bound.close()
        raise
    return bound


@contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    """At a path, in place of one that nobody listens on any more; with the permissions the umask leaves.

    Raises:
        OSError: something else is there, or it cannot be made.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        with socket.socket(socket.AF_UNIX) as probe, suppress(ConnectionRefusedError):
            probe.connect(str(path))
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        path.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        ours = path.stat().st_ino
        try:
            yield bound
        finally:
            with suppress(FileNotFoundError):
                if path.stat().st_ino == ours:
                    path.unlink()
