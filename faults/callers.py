"""Faults of callers: what one of them does must not be felt by the others."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from threading import Event
from time import monotonic, sleep
from typing import TYPE_CHECKING

from faults.background import meanwhile

if TYPE_CHECKING:
    from faults.scene import Scene

FOR_S = 4.0
LARGE = 500_000
"""Bytes of a body that is about as large as the default limits allow."""
ITEMS, TOP_N, DEADLINE_MS = 2000, 200, 10_000
"""The default limits of a rerank."""


def invalid_bodies(scene: Scene) -> None:
    """Two callers send the largest invalid bodies without pause"""
    empty = b'{"items": [{"id": "a", "features": {"f": [' + b",".join([b"{}"] * (LARGE // 3)) + b"]}}]}"
    deep = b'{"items": ' + b"[" * LARGE + b"]" * LARGE + b"}"
    service = scene.serve()
    with scene.traffic(service.port), _posting(service.port, empty), _posting(service.port, deep):
        sleep(FOR_S)


def invalid_feedback(scene: Scene) -> None:
    """A caller sends feedback of thousands of invalid events without pause"""
    events = b'{"recommendation_id": "x", "events": [' + b",".join([b"{}"] * (LARGE // 3)) + b"]}"
    service = scene.serve()
    with scene.traffic(service.port), _posting(service.port, events, "/v1/feedback"):
        sleep(FOR_S)


def huge_lists(scene: Scene) -> None:
    """Seventeen callers send the largest lists, with the most reasoning and the longest deadline"""
    made_up = [f"made up {number}" for number in range(ITEMS)]
    body = {
        "items": [{"id": one} for one in [*scene.items, *made_up][:ITEMS]],
        "top_n": TOP_N,
        "reasoning": {"max_tokens": 8, "entropy_threshold": 0.0},
        "deadline_ms": DEADLINE_MS,
    }
    service, content = scene.serve(), json.dumps(body).encode()
    with scene.traffic(service.port), ExitStack() as greedy:
        for _ in range(17):
            greedy.enter_context(_posting(service.port, content))
        sleep(FOR_S)


def half_sent_bodies(scene: Scene) -> None:
    """Three hundred connections send half a body and wait"""
    head = b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    _held(scene, head + b"Content-Length: 400000\r\n\r\n" + b" " * 200_000)


def half_sent_headers(scene: Scene) -> None:
    """Three hundred connections send half of their headers and wait"""
    _held(scene, b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nX-Slow: ")


def endless_headers(scene: Scene) -> None:
    """Eight connections send headers for ever"""
    service = scene.serve()
    line = b"X-Filler: " + b"x" * 4000 + b"\r\n"
    with scene.traffic(service.port):
        give_up = monotonic() + FOR_S
        while monotonic() < give_up:
            with ExitStack() as stack:
                for connection in [_connected(stack, service.port) for _ in range(8)]:
                    with suppress(OSError):
                        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
                        for _ in range(500):
                            connection.sendall(line)


def _held(scene: Scene, half: bytes) -> None:
    """Three hundred connections that have sent this and send no more."""
    service = scene.serve()
    with scene.traffic(service.port), ExitStack() as stack:
        for _ in range(300):
            with suppress(OSError):
                _connected(stack, service.port).sendall(half)
        sleep(FOR_S)


def _connected(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=2))


@contextmanager
def _posting(port: int, body: bytes, path: str = "/v1/rerank") -> Iterator[None]:
    """A caller that sends the body again and again, and does not mind what it is told."""

    def post(over: Event) -> None:
        while not over.is_set():
            connection = HTTPConnection("127.0.0.1", port, timeout=30)
            with suppress(OSError, HTTPException):
                while not over.is_set():
                    connection.request("POST", path, body, {"Content-Type": "application/json"})
                    connection.getresponse().read()
            connection.close()

    with meanwhile(post):
        yield


FAULTS = (invalid_bodies, invalid_feedback, huge_lists, half_sent_bodies, half_sent_headers, endless_headers)
