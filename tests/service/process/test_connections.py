"""Limits of connections: each one's answer, and that health is told beyond all of them."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from select import select

import httpx
import pytest
from eventually import eventually
from raw import GET_LIVEZ, ITEMS, RERANK, Answer, Caller, asked, connected, head

from launch.service import ServiceProcess
from service.api.answers import ANSWERS
from service.errors import (
    BusyError,
    HeadersTooLargeError,
    MalformedRequestError,
    RequestTimeoutError,
    ServiceError,
)

MOST, SPARE, HELD, BODY = 8, 2, 300_000, 1_000_000

CHUNKED = head("transfer-encoding: chunked")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `limited`."""
    return tmp_path_factory.mktemp("limited") / "log"


@pytest.fixture(scope="module")
def limited(bundle: Path, log: Path) -> Iterator[ServiceProcess]:
    """Patient: what is half sent stays."""
    limits = {
        "max-connections": MOST,
        "health-connections": SPARE,
        "max-header-bytes": 2000,
        "max-headers": 10,
        "max-pipelined": 3,
        "header-timeout-s": 600,
        "body-timeout-s": 600,
        "max-body-bytes": BODY,
        "max-held-bytes": HELD,
        "drain-s": 0,
        "shutdown-timeout-s": 1,
    }
    arguments = [f"--{name}={value}" for name, value in limits.items()]
    with ServiceProcess(bundle, *arguments, log=log) as service:
        yield service


@pytest.fixture(scope="module")
def impatient_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `impatient`."""
    return tmp_path_factory.mktemp("impatient") / "log"


@pytest.fixture(scope="module")
def impatient(bundle: Path, impatient_log: Path) -> Iterator[ServiceProcess]:
    limits = ("--header-timeout-s", "0.5", "--body-timeout-s", "0.5", "--answer-timeout-s", "0.5")
    with ServiceProcess(
        bundle, *limits, "--keep-alive-s", "1", "--drain-s", "0", log=impatient_log
    ) as service:
        yield service


def refused(answer: Answer, error: type[ServiceError]) -> None:
    row = ANSWERS[error]
    assert (answer.status, answer.json["error_type"]) == (row.status, row.error_type)
    assert answer.json["request_id"] == answer.headers["x-request-id"]


def open_connections(service: ServiceProcess) -> float:
    """Besides the one that asks."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("rerank_open_connections ")) - 1


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: t\r\nbad header\r\n\r\n",
        b"CONNECT t:80 HTTP/1.1\r\nhost: t\r\n\r\n",
        b"CONNECT /livez HTTP/1.1\r\nhost: t\r\n\r\n",
        CHUNKED + b"no number\r\n",
    ],
    ids=["no host", "two hosts", "no http", "no header", "connect", "connect a path", "no chunk"],
)
def test_what_is_malformed_gets_400(limited: ServiceProcess, sent: bytes) -> None:
    answer = asked(limited, sent)
    refused(answer, MalformedRequestError)
    assert answer.closes


def test_http_1_0_needs_no_host(limited: ServiceProcess) -> None:
    assert asked(limited, b"GET /livez HTTP/1.0\r\n\r\n").status == 200


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /livez HTTP/1.1\r\nhost: t\r\na: ", b"x" * 60_000),
        (b"GET /livez?", b"x" * 60_000),
        (b"GET /livez HTTP/1.1\r\n", b"b: c\r\n" * 10_000),
        (b"", b"\r\n" * 40_000),
        (CHUNKED + b"1;", b"x" * 60_000),
        (CHUNKED + b"0\r\ntrailer: ", b"x" * 60_000),
        (CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
    ],
    ids=["value", "path", "many", "line feeds", "chunk extension", "trailer", "trailers"],
)
def test_what_is_endless_is_read_no_further(limited: ServiceProcess, start: bytes, more: bytes) -> None:
    with connected(limited) as caller:
        caller.send(start)
        assert any(caller.fails_to_send(more) for _ in range(5000)), "300 MB of it"
    assert asked(limited, GET_LIVEZ).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"a{n}: b" for n in range(8)], 200),
        ([f"a{n}: b" for n in range(9)], 431),
        (["a: " + "x" * 1900], 200),
        (["a: " + "x" * 2000], 431),
    ],
)
def test_headers_are_counted_and_measured(limited: ServiceProcess, headers: list[str], status: int) -> None:
    sent = head(*headers, method="GET", path="/livez")
    for parts in ([sent], [sent[:700], sent[700:]]):
        with connected(limited) as caller:
            for part in parts:
                caller.send(part)
            answer = caller.answer()
        assert answer.status == status
        if status != 200:
            refused(answer, HeadersTooLargeError)


def test_a_body_is_no_header(limited: ServiceProcess) -> None:
    """However it comes: at once, in chunks of a byte, behind another request."""
    chunked = b"".join(b"1\r\n%c\r\n" % byte for byte in ITEMS) + b"0\r\n\r\n"
    big = ITEMS + b" " * 200_000
    for sent in (head(length=len(big)) + big, CHUNKED + chunked):
        assert asked(limited, sent).status == 200
        with connected(limited) as caller:
            caller.send(RERANK + sent)
            assert [caller.answer().status for _ in range(2)] == [200, 200]


def test_trailers_are_no_headers(limited: ServiceProcess) -> None:
    sent = CHUNKED + b"%x\r\n%b\r\n0\r\nx-request-id: trailer\r\n\r\n"
    answer = asked(limited, sent % (len(ITEMS), ITEMS))
    assert answer.status == 200
    assert answer.headers["x-request-id"] != "trailer"


def test_head_is_answered_without_a_body(limited: ServiceProcess) -> None:
    with connected(limited) as caller:
        for path in ("/v1/models", "/v1/rerank", "/docs"):
            caller.send(head(method="HEAD", path=path) + head(method="GET", path=path))
            told, got = caller.answer(to_head=True), caller.answer()
            assert told.status == got.status == (405 if path == "/v1/rerank" else 200)
            assert told.headers["content-length"] == got.headers["content-length"]
            assert len(got.content) > 0


def test_only_so_many_requests_are_sent_ahead(limited: ServiceProcess) -> None:
    with connected(limited) as caller:
        caller.send(RERANK * 4)
        assert [caller.answer().closes for _ in range(4)] == [False] * 4
        caller.send(RERANK * 9)
        assert [caller.answer().status for _ in range(4)] == [200] * 4
        assert caller.is_closed(), "after the answers that are due"


def test_an_upgrade_is_ignored(limited: ServiceProcess) -> None:
    headers = (
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-key: k",
        "sec-websocket-version: 13",
    )
    with connected(limited) as caller:
        for _ in range(2):
            assert caller.send(head(*headers, method="GET", path="/livez")).answer().status == 200


def test_with_an_upgrade_the_body_is_read_all_the_same(limited: ServiceProcess) -> None:
    """As Java's client sends it."""
    asks = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAAA")
    whole = head(*asks, length=len(ITEMS)) + ITEMS
    chunked = head(*asks, "transfer-encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(ITEMS), ITEMS)
    with connected(limited) as caller:
        caller.send(whole + chunked)
        for _ in range(2):
            assert caller.answer().json["fallback"] is None
        for piece in (whole[:50], whole[50:-9], whole[-9:]):
            caller.send(piece)
        assert caller.answer().status == 200


async def test_beyond_the_connections_health_is_still_told(limited: ServiceProcess, log: Path) -> None:
    await eventually(lambda: open_connections(limited) == 0)
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(connected(limited)).send(RERANK[:-1])
        await eventually(lambda: asked(limited, RERANK).status == 503)
        answer = asked(limited, RERANK)
        refused(answer, BusyError)
        assert answer.closes
        assert answer.headers["retry-after"]
        idle = [stack.enter_context(connected(limited)) for _ in range(50)]
        for path in ("/livez", "/readyz"):
            health = asked(limited, head(method="GET", path=path))
            assert (health.status, health.closes) == (200, True)
        assert all(caller.is_closed() for caller in idle[: -SPARE - 1]), "the oldest yield"
    await eventually(lambda: asked(limited, RERANK).status == 200)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = next(line for line in lines if line.get("code") == 503)
    assert (told["level"], told["reason"]) == ("error", f"{MOST} connections are open already")


async def test_bodies_are_held_up_to_a_limit(limited: ServiceProcess) -> None:
    """Those beyond are answered at once, and what is held is told apart from what was."""
    with ExitStack() as stack:
        held = [stack.enter_context(connected(limited)) for _ in range(2)]
        for caller in held:
            caller.send(head(length=BODY) + ITEMS + b" " * (HELD // 2 - 1000))
        await eventually(lambda: "rerank_inflight_requests 3.0\n" in httpx.get(f"{limited.url}/metrics").text)
        with connected(limited) as caller:
            refused(caller.send(head(length=BODY) + b" " * 5000).answer(), BusyError)
            caller.send(b" " * (BODY - 5000))
            assert caller.send(RERANK).answer().status == 200, "the connection goes on"
        assert asked(limited, RERANK).status == 200, "a body that comes at once is not held"
        for caller in held:
            caller.close()
    await eventually(
        lambda: asked(limited, head(length=200_000) + ITEMS + b" " * (200_000 - len(ITEMS))).status == 200
    )


@pytest.mark.parametrize("sent", [RERANK[:20], RERANK[:-1]], ids=["headers", "body"])
def test_what_is_half_sent_gets_408(impatient: ServiceProcess, sent: bytes) -> None:
    with connected(impatient) as caller:
        caller.send(RERANK + sent)  # behind a request of which everything came
        assert caller.answer().status == 200
        answer = caller.answer()
        refused(answer, RequestTimeoutError)
        assert answer.closes
        assert caller.is_closed()
    assert asked(impatient, RERANK).status == 200


def test_a_caller_that_dribbles_is_not_waited_for_longer(impatient: ServiceProcess) -> None:
    def answered(caller: Caller) -> bool:
        """Whether there is an answer, a little after another byte was sent."""
        return caller.fails_to_send(b"A") or bool(select([caller.socket], [], [], 0.02)[0])

    with connected(impatient) as caller:
        caller.send(RERANK[: RERANK.index(b"host: t") + 7])
        assert any(answered(caller) for _ in range(1000)), "of twenty seconds"
        refused(caller.answer(), RequestTimeoutError)


@pytest.mark.parametrize("sent", [b"", RERANK], ids=["new", "used"])
def test_an_idle_connection_is_closed(impatient: ServiceProcess, sent: bytes) -> None:
    with connected(impatient) as caller:
        if sent:
            assert caller.send(sent).answer().status == 200
        assert caller.is_closed()


@pytest.mark.parametrize("waited", [False, True])
def test_a_request_is_as_old_as_it_is(limited: ServiceProcess, waited: bool) -> None:
    """The event loop stood still for 1.5 s, and a request of a second came at the end, or before."""
    body = ITEMS[:-1] + b', "deadline_ms": 1000}'
    with connected(limited) as caller:
        caller.send(GET_LIVEZ).answer()
        limited.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.0 if waited else 1.5)
            caller.send(head(length=len(body)) + body)
            time.sleep(1.5 if waited else 0.0)
        finally:
            limited.process.send_signal(signal.SIGCONT)
        assert caller.answer().json["fallback"] == ("deadline" if waited else None)


async def test_a_caller_who_does_not_read_is_not_waited_for(
    impatient: ServiceProcess, impatient_log: Path
) -> None:
    """Nor are requests of his that wait behind the answer, and nothing of it is the service's failure."""
    large = json.dumps({"items": [{"id": f"{n:0100}"} for n in range(1500)], "return_all": True}).encode()
    with connected(impatient) as caller:
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        caller.socket.settimeout(0.5)
        with suppress(TimeoutError):  # once its answers are in the way, no more is read from it
            for _ in range(40):
                caller.send(head(length=len(large)) + large)
        await eventually(lambda: open_connections(impatient) == 1)
        await eventually(lambda: open_connections(impatient) == 0)
    assert 'rerank_refused_total{reason="unread"} 1.0' in httpx.get(f"{impatient.url}/metrics").text
    assert "Exception" not in impatient_log.read_text()


@pytest.mark.parametrize("ahead", [0, 2])
def test_who_has_sent_all_there_is_still_gets_every_answer(limited: ServiceProcess, ahead: int) -> None:
    """A list of 2,000 is written by a thread, so that the end of what is sent is seen before the answer."""
    large = json.dumps({"items": [{"id": str(n)} for n in range(2000)], "top_n": 200}).encode()
    with connected(limited) as caller:
        caller.send((head(length=len(large)) + large) * (ahead + 1))
        caller.socket.shutdown(socket.SHUT_WR)
        for _ in range(ahead + 1):
            assert caller.answer().status == 200
        assert caller.is_closed()


def test_half_a_request_and_no_more_is_not_waited_for(limited: ServiceProcess) -> None:
    with connected(limited) as caller:
        caller.send(RERANK[:-1]).socket.shutdown(socket.SHUT_WR)
        assert caller.is_closed()
