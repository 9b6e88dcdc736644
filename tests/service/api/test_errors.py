"""Every error has its status, its type and one shape, whatever raised it."""

from collections.abc import AsyncIterator
from inspect import isclass
from typing import Any

import pytest
from error_answers import refused
from fastapi.openapi.utils import get_openapi
from httpx import ASGITransport, AsyncClient
from rerank_client import Client, Serve
from starlette.requests import ClientDisconnect

from service import errors
from service.api import rerank
from service.api.answers import ANSWERS
from service.errors import (
    BodyTooLargeError,
    BusyError,
    DeadlineExceededError,
    Fault,
    ForbiddenError,
    InvalidRequestError,
    ModelError,
    NotFoundError,
    OverloadedError,
    RateLimitedError,
    ServiceError,
    StoreUnavailableError,
    UnauthenticatedError,
    UnknownRecommendationError,
)

ONE = [{"id": "i1"}]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/feedback"])
async def test_the_body_is_read_no_further_than_the_limit(serve: Serve, path: str) -> None:
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(10):
            read += 60
            yield b" " * 60

    async with serve(max_body_bytes=100) as client:
        for headers, expected in (({"content-length": "600"}, 0), ({}, 120)):
            read = 0
            body = refused(await client.post(path, content=chunks(), headers=headers), BodyTooLargeError)
            assert "100 bytes" in body["error"]
            assert read == expected
        whole = b'{"items": [{"id": "i1"}]}'.ljust(100)
        assert (await client.post("/v1/rerank", content=whole)).status_code == 200
        refused(await client.post("/v1/rerank", content=whole + b" "), BodyTooLargeError)


async def test_unknown_routes_and_methods_have_the_shape(client: Client) -> None:
    refused(await client.get("/nowhere"), NotFoundError)
    for path in ("/v1/rerank", "/v1/feedback"):
        wrong = await client.get(path)
        assert (wrong.status_code, wrong.json()["error_type"]) == (405, "validation")
        assert wrong.json()["request_id"] == wrong.headers["x-request-id"]
        assert wrong.headers["allow"] == "POST"
        assert await client.metric(f'rerank_requests_total{{code="405",endpoint="{path}"}}') == 1


async def test_a_refused_method_tells_all_of_the_path(client: Client) -> None:
    for path, methods in {
        "/v1/users/u1/context": {"DELETE", "GET", "HEAD", "PUT"},
        "/livez": {"GET", "HEAD"},
        "/metrics": {"GET", "HEAD"},
    }.items():
        wrong = await client.patch(path)
        assert (wrong.status_code, set(wrong.headers["allow"].split(", "))) == (405, methods)


async def test_nobody_is_sent_where_the_host_header_points(client: Client) -> None:
    for path in ("/v1/rerank/", "/v1/users/u1/context/", "/livez/"):
        refused(await client.get(path, headers={"host": "evil.com"}), NotFoundError)


RAISED: dict[type[Exception], Exception] = {
    ClientDisconnect: ClientDisconnect(),
    UnknownRecommendationError: UnknownRecommendationError(),
    InvalidRequestError: InvalidRequestError([Fault("items", "are odd")]),
    DeadlineExceededError: DeadlineExceededError("infer"),
    RateLimitedError: RateLimitedError(0.5),
    Exception: KeyError("secret"),
}


@pytest.mark.parametrize("route", ["/v1/rerank", "/v1/models/{model}/rerank", "/v1/feedback"])
async def test_every_error_is_answered_as_the_table_says(
    client: Client, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    """In front of FastAPI and behind it."""
    for kind in ANSWERS:
        error = RAISED.get(kind) or kind("the reason")

        def broken(*_: Any, error: Exception = error) -> None:
            raise error

        for handlers in ("rerank", "users"):
            monkeypatch.setattr(f"service.api.{handlers}.parse", broken)
        response = await client.post(route.format(model="eglr"), json={})
        body = refused(response, kind)
        assert body["error"] == ("internal error" if kind is Exception else str(error))
        assert ("retry-after" in response.headers) == (kind in (OverloadedError, RateLimitedError, BusyError))
    for status in {row.status for row in ANSWERS.values()}:
        counted = await client.metric(f'rerank_requests_total{{code="{status}",endpoint="{route}"}}')
        assert counted == sum(row.status == status for row in ANSWERS.values())


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/feedback"])
async def test_only_what_nobody_foresaw_reaches_the_server_and_its_log(
    client: Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("secret")

    async with AsyncClient(transport=ASGITransport(client.app), base_url="http://service") as server:
        refused(await server.post(path, json={}), InvalidRequestError)
        for handlers in ("rerank", "users"):
            monkeypatch.setattr(f"service.api.{handlers}.parse", broken)
        with pytest.raises(KeyError):
            await server.post(path, json={})


async def test_an_error_without_a_row_is_answered_as_its_parent(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class QueueFullError(OverloadedError):
        pass

    def full(*_: Any) -> None:
        raise QueueFullError("the queue is full")

    monkeypatch.setattr("service.api.rerank.parse", full)
    refused(await client.post("/v1/rerank", json={}), OverloadedError)


async def test_an_unexpected_error_is_answered_under_the_id_in_the_body(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("service.api.rerank.check_rerank", broken)
    response = await client.post("/v1/rerank", json={"items": ONE, "request_id": "r"})
    assert refused(response, Exception)["request_id"] == "r"
    assert "secret" not in response.text


async def test_a_caller_that_leaves_while_sending_is_no_error_of_ours(client: Client) -> None:
    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def sent(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/v1/rerank", "headers": [], "query_string": b""}
    await client.app(scope, gone, sent)
    assert await client.metric('rerank_requests_total{code="400",endpoint="/v1/rerank"}') == 1


async def test_what_stands_in_front_of_fastapi_is_not_behind_it_too(client: Client) -> None:
    behind = get_openapi(title="", version="", routes=client.app.routes)["paths"]
    assert "/v1/feedback" in behind
    assert not {route.path for route in rerank.router.routes} & set(behind)


def test_every_error_has_its_row() -> None:
    kinds = {kind for kind in vars(errors).values() if isclass(kind) and issubclass(kind, ServiceError)}
    leaves = {kind for kind in kinds if not kinds & set(kind.__subclasses__())}
    assert InvalidRequestError in leaves
    assert leaves <= set(ANSWERS)


def test_what_callers_rely_on() -> None:
    assert {kind: ANSWERS[kind][:2] for kind in (*RAISED, NotFoundError, OverloadedError, ModelError)} == {
        ClientDisconnect: (400, "validation"),
        UnknownRecommendationError: (404, "not_found"),
        NotFoundError: (404, "not_found"),
        InvalidRequestError: (422, "validation"),
        RateLimitedError: (429, "overloaded"),
        OverloadedError: (429, "overloaded"),
        Exception: (500, "unavailable"),
        ModelError: (503, "unavailable"),
        DeadlineExceededError: (504, "deadline"),
    }
    assert ANSWERS[UnauthenticatedError][:2] == (401, "unauthenticated")
    assert ANSWERS[ForbiddenError][:2] == (403, "forbidden")
    assert ANSWERS[BodyTooLargeError][:2] == (413, "validation")
    assert ANSWERS[StoreUnavailableError][:2] == (503, "unavailable")
