"""HTTP by hand, for what no client would send."""

import json
import socket
from dataclasses import dataclass
from email.message import Message
from http.client import parse_headers
from typing import Any, Self

from launch.service import ServiceProcess

PATIENCE_S = 30.0

ITEMS = b'{"items": [{"id": "i1"}, {"id": "i2"}]}'


def head(*headers: str, method: str = "POST", path: str = "/v1/rerank", length: int | None = None) -> bytes:
    """Request line and headers, with a Host and the type of a JSON body."""
    lines = [f"{method} {path} HTTP/1.1", "host: t", "content-type: application/json", *headers]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


GET_LIVEZ = head(method="GET", path="/livez")
RERANK = head(length=len(ITEMS)) + ITEMS


class Caller:
    """One connection, closed by `with`."""

    def __init__(self, address: Any) -> None:
        """Connect to a port of this machine's, `(host, port)`, or to a unix socket's path."""
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(address)
            except OSError:
                self.socket.close()
                raise
        else:
            self.socket = socket.create_connection(address)
        self.socket.settimeout(PATIENCE_S)
        self._file = self.socket.makefile("rb")

    def send(self, sent: bytes) -> Self:
        self.socket.sendall(sent)
        return self

    def fails_to_send(self, sent: bytes) -> bool:
        """Whether nobody takes it any more."""
        try:
            self.socket.sendall(sent)
        except OSError:
            return True
        return False

    def answer(self, to_head: bool = False) -> "Answer":
        """The next one; to HEAD none has a body. Raises: OSError: the connection is closed instead."""
        line = self._file.readline()
        if not line:
            raise ConnectionResetError("closed without an answer")
        headers = parse_headers(self._file)
        length = 0 if to_head else int(headers.get("content-length", 0))
        return Answer(int(line.split()[1]), headers, self._file.read(length))

    def is_closed(self) -> bool:
        """Whether the server closes the connection, without another word."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Message
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def closes(self) -> bool:
        return self.headers["connection"] == "close"


def connected(service: ServiceProcess) -> Caller:
    return Caller(("127.0.0.1", service.port))


def asked(service: ServiceProcess, sent: bytes) -> Answer:
    """The answer to what is sent over a connection of its own."""
    with connected(service) as caller:
        return caller.send(sent).answer()
