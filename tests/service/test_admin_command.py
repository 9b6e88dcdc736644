"""The command that changes what is served, as far as it needs no service."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from service.admin import main


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("shares films 1=0.5 1=1", "a version occurs twice"),
        ("shares films =1", "expected VERSION=SHARE"),
        ("shares films 1=most", "invalid"),
        ("shadow films --model books", "--model and --share go with a version"),
        ("shadow films --share 0", "--model and --share go with a version"),
    ],
)
def test_what_is_half_said_is_asked_of_nobody(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--url", "http://127.0.0.1:9", *command.split()])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


class Another(BaseHTTPRequestHandler):
    """Answers as its path says: a status, then a body."""

    def do_GET(self) -> None:
        status, body = self.path.removesuffix("/v1/models").strip("/").split("/")
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write({"html": b"<html>", "list": b'{"data": []}', "text": b'"no"'}[body])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def another() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Another) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        *((f"200/{body}", "what answers there is another service") for body in ("html", "list", "text")),
        *((f"404/{body}", "HTTP Error 404") for body in ("html", "list", "text")),
    ],
)
def test_another_service_is_told(
    answer: str, told: str, another: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--url", f"{another}/{answer}", "list"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
