"""What is told of real sockets, by transports of the event loop that serves."""

import asyncio
import socket
import time

import uvloop

from service.process.sockets import age_s

SLEPT_S, A_TICK_S = 0.1, 0.01


class Asked(asyncio.Protocol):
    """Notes what is known when its first data comes."""

    def __init__(self) -> None:
        self.told: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.told.set_result(age_s(self.transport))


async def _age_s(ours: socket.socket, theirs: socket.socket) -> float | None:
    """Of what arrived before the event loop did something else for a while."""
    _, protocol = await asyncio.get_running_loop().connect_accepted_socket(Asked, ours)
    theirs.sendall(b"x")
    time.sleep(SLEPT_S)
    age = await protocol.told
    protocol.transport.close()
    assert age_s(protocol.transport) is None
    return age


def test_what_waited_in_the_socket_is_as_old_as_that() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as theirs:
        age = uvloop.run(_age_s(listener.accept()[0], theirs))
    assert age is not None
    assert age > SLEPT_S - A_TICK_S


def test_of_a_unix_socket_nobody_knows() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        assert uvloop.run(_age_s(ours, theirs)) is None
