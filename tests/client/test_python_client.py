"""The client against a real service, and against what stands in its place."""

import json
import socket
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from hashlib import sha256
from http.client import HTTPResponse
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from eglr_client import (
    AnswerError,
    AsyncClient,
    Client,
    Event,
    EventsAnswer,
    FeatureMatrix,
    FeedbackAnswer,
    History,
    Ignored,
    IgnoredEvent,
    Item,
    Ranking,
    Reasoning,
    Result,
    TracePosition,
    TraceStep,
    UnreachableError,
    UsedSampling,
    UserContext,
)
from eglr_client.calls import Answer, Call, NoAnswer, Send, Wait, feedback, rerank
from eglr_client.client import ReasoningOptions, RerankOptions, SamplingOptions
from pydantic import BaseModel

from launch.service import ServiceProcess
from launch.waiting import free_port
from service.bodies import rerank as rerank_bodies
from service.bodies import users as user_bodies

KEY = "rk_" + "k" * 40
GRANTS = f'[team]\nsha256 = ["{sha256(KEY.encode()).hexdigest()}"]\nscopes = ["rerank", "feedback", "users"]'
PATIENT = 10_000.0
"""Deadline, in ms, of those who want an answer on a busy machine."""
ITEMS = [f"i{number}" for number in range(12)]


@pytest.fixture(scope="module")
def service(bundle: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(bundle, "--drain-s", "0", RERANK_API_KEYS=GRANTS) as running:
        yield running


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[Client]:
    with Client(service.url, api_key=KEY, deadline_ms=PATIENT - 1) as made:
        yield made


def test_a_users_day(client: Client) -> None:
    client.put_context("u1", UserContext({}, (History("i3", "click", 1.7e9),)))
    ranking = client.rerank([*ITEMS[:-1], Item("i11", score=0.5)], user_id="u1", top_n=5, explain=True)
    assert ranking.fallback is None
    assert ranking.context == "hit"
    assert len(set(ranking.ids)) == 5
    assert ranking.reasoning is not None
    assert ranking.reasoning.trace is not None
    assert [one.id for one in ranking.reasoning.trace] == ranking.ids
    assert ranking.recommendation_id is not None
    told = client.feedback(ranking.recommendation_id, [Event(ranking.ids[0], "click", position=0)])
    assert (told.accepted, told.applied, told.ignored) == (1, 1, {})
    outside = client.add_events("u1", [Event("i9", "click"), Event("i9", "no_such_type")])
    assert (outside.applied, outside.ignored) == (1, (IgnoredEvent(1, "unknown_type"),))
    known = client.context("u1")
    assert known is not None
    assert [one.item_id for one in known.history] == ["i3", ranking.ids[0], "i9"]
    assert client.models()["models"]
    client.forget("u1")
    assert client.context("u1") is None


async def test_the_same_in_asyncio(service: ServiceProcess) -> None:
    async with AsyncClient(service.url, api_key=KEY, deadline_ms=PATIENT - 1) as client:
        await client.put_context("u2", UserContext())
        ranking = await client.rerank(ITEMS, user_id="u2", top_n=3)
        assert ranking.recommendation_id is not None
        await client.feedback(ranking.recommendation_id, [Event(ranking.ids[0], "click")])
        await client.add_events("u2", [Event("i9", "click")])
        known = await client.context("u2")
        assert known is not None
        assert [one.item_id for one in known.history] == [ranking.ids[0], "i9"]
        assert (await client.models())["models"]
        await client.forget("u2")
        assert await client.context("u2") is None
        with pytest.raises(AnswerError):
            await client.rerank(["i1", "i1"])


@pytest.mark.parametrize("user_id", ["a/b", "a.b", "line\nfeed", "%ff", "é", "a b?c#d"])
def test_any_text_is_a_user(client: Client, user_id: str) -> None:
    client.put_context(user_id, UserContext({}, (History("i1", "click", 1.7e9),)))
    assert client.context(user_id) == UserContext({}, (History("i1", "click", 1.7e9),))
    client.forget(user_id)
    assert client.context(user_id) is None


@pytest.mark.parametrize("user_id", [".", ".."])
def test_a_user_that_a_path_leaves_out_is_refused_and_is_nobody_else(client: Client, user_id: str) -> None:
    with pytest.raises(AnswerError, match="what a path leaves out"):
        client.forget(user_id)


def test_a_refusal_names_the_field(client: Client, service: ServiceProcess) -> None:
    with pytest.raises(AnswerError, match="'i1' occurs twice") as refused:
        client.rerank(["i1", "i1"], request_id="r-1")
    assert (refused.value.status, refused.value.error_type) == (422, "validation")
    assert list(refused.value.fields) == ["items.1.id"]
    assert refused.value.request_id == "r-1"
    with pytest.raises(AnswerError, match="404"):
        client.feedback("0" * 32, [Event("i1", "click")])
    with Client(service.url, api_key="rk_" + "w" * 40) as stranger, pytest.raises(AnswerError, match="401"):
        stranger.rerank(ITEMS)


def test_features_as_a_matrix(client: Client) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    matrix = FeatureMatrix.of(["price", "embedding[0]"], rows.tolist())
    assert np.array_equal(np.frombuffer(b64decode(matrix.data), "<f4").reshape(3, 2), rows)
    assert client.rerank(["n1", "n2", "n3"], features_f32=matrix).missing_ids == ("n1", "n2", "n3")
    with pytest.raises(ValueError, match="row 1 has 1 numbers for 2 names"):
        FeatureMatrix.of(["a", "b"], [[1, 2], [1]])


NOWHERE = f"http://127.0.0.1:{free_port()}"


def test_nobody_there() -> None:
    with Client(NOWHERE, timeout_s=0.3) as client:
        ranking = client.rerank(ITEMS, top_n=2)
        assert (ranking.ids, ranking.fallback) == (ITEMS[:2], "unreachable")
        assert client.rerank(ITEMS, top_n=2, return_all=True).ids == ITEMS
        with pytest.raises(UnreachableError):
            client.rerank(ITEMS, strict=True)
        with pytest.raises(UnreachableError):  # the given order may break them
            client.rerank(ITEMS, constraints={"excluded": ["i0"]})
        with pytest.raises(UnreachableError):
            client.feedback("0" * 32, [Event("i1", "click")])


@contextmanager
def answering(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does this to every connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                behave(connection)

        Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)


def silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def dribbling(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        connection.settimeout(0.01)
        with suppress(TimeoutError):
            connection.recv(1)


def a_proxys_page(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>")


@pytest.mark.parametrize("behave", [silent, dribbling, a_proxys_page])
async def test_a_service_that_gives_no_answer(behave: Callable[[socket.socket], None]) -> None:
    """Each ends, which is the point, and with the given order."""
    with answering(behave) as url:
        with Client(url, deadline_ms=100) as client:
            assert client.rerank(ITEMS).fallback == "unreachable"
        async with AsyncClient(url, deadline_ms=100) as client:
            assert (await client.rerank(ITEMS)).fallback == "unreachable"


def test_an_answer_that_is_lost_counts_once(service: ServiceProcess, client: Client) -> None:
    """The service took the events, and the connection breaks before it can say so."""
    lost = []

    def losing(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", service.port)) as there:
            there.sendall(connection.recv(1 << 20))
            answer = HTTPResponse(there)
            answer.begin()
            body = answer.read()
            if not lost:
                lost.append(answer.status)
                return
            head = f"HTTP/1.1 {answer.status} OK\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)

    ranking = client.rerank(ITEMS, user_id="u3")
    assert ranking.recommendation_id is not None
    with answering(losing) as url, Client(url, api_key=KEY) as unlucky:
        told = unlucky.feedback(ranking.recommendation_id, [Event("i1", "click")])
    assert lost == [202]
    assert (told.applied, told.ignored) == (0, {"duplicate": 1})
    known = client.context("u3")
    assert known is not None
    assert [one.item_id for one in known.history] == ["i1"]


def after(call: Call[Any], *came: Answer | NoAnswer | None) -> Any:
    """What a call does next, or makes, after what came of what it did."""
    try:
        next(call)
        for one in came:
            step = call.send(one)
    except StopIteration as end:
        return end.value
    return step


BUSY = Answer(503, {"error": "no model is ready"}, retry_after="2")
LOST = NoAnswer("connection reset", timed_out=False)
LATE = NoAnswer("too late", timed_out=True)
RANKED = Answer(200, {"request_id": "r", "results": [{"id": "i1", "index": 1, "new": 1}], "new_too": {}})


def test_a_rerank_is_tried_elsewhere_while_there_is_time() -> None:
    def of(*came: Answer | NoAnswer, **body: Any) -> Any:
        return after(rerank(ITEMS, body, PATIENT, 5.0, 1), *came)

    for first in (BUSY, LOST):
        again = of(first)
        assert isinstance(again, Send)
        assert 0 < again.body["deadline_ms"] < PATIENT - 5
        assert of(first, RANKED).ids == ["i1"]
        assert of(first, first).fallback == "unreachable"
    for last in (LATE, Answer(429, {}), Answer(500, None), Answer(504, {})):
        assert of(last).fallback == "unreachable"
    with pytest.raises(AnswerError, match="no model is ready"):
        of(BUSY, BUSY, strict=True)
    with pytest.raises(AnswerError, match="403"):
        of(Answer(403, None))


def test_feedback_waits_as_it_is_told_and_keeps_its_ids() -> None:
    def of(*came: Answer | NoAnswer | None) -> Any:
        return after(
            feedback("r", [Event("i1", "click"), Event("i2", "click", event_id="mine")], 30.0), *came
        )

    wait = of(BUSY)
    assert isinstance(wait, Wait)
    assert wait.seconds >= 2
    call = feedback("r", [Event("i1", "click")], 30.0)
    first = next(call)
    call.send(LOST)
    second = call.send(None)
    assert isinstance(first, Send)
    assert isinstance(second, Send)
    assert first.body == second.body
    assert first.body["events"][0]["event_id"]
    with pytest.raises(AnswerError, match="404"):
        of(Answer(404, {"error": "unknown"}))


PAIRS: list[tuple[type, type[BaseModel]]] = [
    (Item, rerank_bodies.Item),
    (FeatureMatrix, rerank_bodies.FeatureMatrix),
    (Result, rerank_bodies.Result),
    (TracePosition, rerank_bodies.TracePosition),
    (TraceStep, rerank_bodies.TraceStep),
    (Reasoning, rerank_bodies.Reasoning),
    (UsedSampling, rerank_bodies.UsedSampling),
    (Ignored, rerank_bodies.Ignored),
    (Ranking, rerank_bodies.RerankResponse),
    (Event, user_bodies.FeedbackEvent),
    (History, user_bodies.Event),
    (UserContext, user_bodies.ContextBody),
    (FeedbackAnswer, user_bodies.FeedbackResponse),
    (EventsAnswer, user_bodies.EventsResponse),
    (IgnoredEvent, user_bodies.IgnoredEvent),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_bodies_have_the_fields_of_the_api(ours: Any, theirs: type[BaseModel]) -> None:
    assert {one.name for one in fields(ours)} == set(theirs.model_fields)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (RerankOptions, rerank_bodies.RerankRequest),
        (ReasoningOptions, rerank_bodies.ReasoningOverrides),
        (SamplingOptions, rerank_bodies.Sampling),
    ],
)
def test_options_have_the_fields_of_the_api(ours: Any, theirs: type[BaseModel]) -> None:
    assert set(ours.__annotations__) == set(theirs.model_fields) - {"items"}


def test_needs_nothing_of_the_service() -> None:
    script = "import sys, json, eglr_client; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", script]
    client = Path(__file__).parents[2] / "client"
    done = subprocess.run(command, cwd=client, capture_output=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"service", "bundle", "engine", "pydantic", "msgspec", "numpy", "fastapi", "redis"}
