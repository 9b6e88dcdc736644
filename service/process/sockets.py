"""What the system knows of a connection's socket and its transport does not tell."""

import fcntl
import socket
import sys
import termios
from asyncio import BaseTransport

TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
LAST_DATA = slice(52, 56)
"""Of Linux's `struct tcp_info`: `tcpi_last_data_recv`, in milliseconds, as exact as the system's tick."""


def has_unread(transport: BaseTransport) -> bool:
    """Whether bytes wait in the socket."""
    descriptor = transport.get_extra_info("socket").fileno()
    if transport.is_closing() or descriptor < 0:
        return False
    waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return int.from_bytes(waiting, sys.byteorder) > 0


def age_s(transport: BaseTransport) -> float | None:
    """How long ago the last of what has been sent arrived, read or not; None where nobody knows."""
    if TCP_INFO is None or transport.is_closing():
        return None
    try:
        known = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, TCP_INFO, LAST_DATA.stop)
    except OSError:  # of a unix socket
        return None
    return int.from_bytes(known[LAST_DATA], sys.byteorder) / 1000
