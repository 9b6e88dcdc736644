"""Bad input: every error has its status, its type and one shape, and names the field."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from inspect import isclass
from typing import Any

import pytest
from error_answers import faulty_fields, refused
from fastapi.openapi.utils import get_openapi
from httpx import ASGITransport, AsyncClient
from rerank_client import Client, Serve
from starlette.requests import ClientDisconnect

from service import errors
from service.api import rerank
from service.api.answers import ANSWERS
from service.bodies.common import MAX_NUMBER, MAX_TIMESTAMP
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


async def fields_of(client: Client, body: Any) -> dict[str, str]:
    """Faulty fields of a rerank's body, and their messages."""
    content = body if isinstance(body, bytes) else json.dumps(body)
    return faulty_fields(await client.post("/v1/rerank", content=content))


def item(**features: Any) -> dict[str, Any]:
    return {"items": [{"id": "i1"}, {"id": "i2", "features": features}]}


ONE = [{"id": "i1"}]


def rules(**constraints: Any) -> dict[str, Any]:
    """Of two items; the group `a` is both of them, if no others are given."""
    groups = {"groups": {"a": ["i1", "i2"]}} if "groups" not in constraints else {}
    return {"items": [{"id": "i1"}, {"id": "i2"}], "constraints": groups | constraints}


def matrix(names: list[str], data: bytes | str) -> dict[str, Any]:
    encoded = b64encode(data).decode() if isinstance(data, bytes) else data
    return {"items": ONE, "features_f32": {"names": names, "data": encoded}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b'{"items": [{"id": "\xff"}]}', "body"),
        (b"[1]", "body"),
        (b'{"items": [{"id": "i1", "score": NaN}]}', "items.0.score"),
        (b'{"items": [{"id": "i1", "score": 1e999}]}', "items.0.score"),
        (b'{"items": [{"id": "i1", "features": {"price": Infinity}}]}', "items.0.features.price"),
        (b'{"items": [{"id": "i1", "features": {"embedding": [1, NaN]}}]}', "items.0.features.embedding.1"),
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": [{}]}, "items.0.id"),
        ({"items": [{"id": ""}]}, "items.0.id"),
        ({"items": [{"id": 7}]}, "items.0.id"),
        ({"items": [{"id": "i1"}, {"id": "i2"}, {"id": "i1"}]}, "items.2.id"),
        ({"items": [{"id": "i1", "rank": 1}]}, "items.0.rank"),
        ({"items": [{"id": "i1", "score": 1e40}]}, "items.0.score"),
        ({"items": ONE, "topn": 3}, "topn"),
        ({"items": ONE, "top_n": 0}, "top_n"),
        ({"items": ONE, "deadline_ms": 0}, "deadline_ms"),
        ({"items": ONE, "deadline_ms": 1e300}, "deadline_ms"),
        ({"items": ONE, "user_id": ""}, "user_id"),
        ({"items": ONE, "request_id": "a\nb"}, "request_id"),
        ({"items": ONE, "reasoning": {"max_tokens": -1}}, "reasoning.max_tokens"),
        ({"items": ONE, "reasoning": {"max_tokens": 9}}, "reasoning.max_tokens"),
        ({"items": ONE, "reasoning": {"entropy_threshold": -0.1}}, "reasoning.entropy_threshold"),
        ({"items": ONE, "reasoning": {"temperature": 0}}, "reasoning.temperature"),
        ({"items": ONE, "reasoning": {"budget": 1}}, "reasoning.budget"),
        ({"items": ONE, "sampling": {"temperature": 0}}, "sampling.temperature"),
        ({"items": ONE, "sampling": {"seed": -1}}, "sampling.seed"),
        (rules(exclude=[]), "constraints.exclude"),
        (rules(pinned=None), "constraints.pinned"),
        (rules(pinned=[{"id": "i1"}]), "constraints.pinned.0.position"),
        (rules(pinned=[{"id": "i1", "position": "0"}]), "constraints.pinned.0.position"),
        (rules(pinned=[{"id": "i1", "position": -1}]), "constraints.pinned.0.position"),
        (rules(pinned=[{"id": "i1", "position": 2}]), "constraints.pinned.0.position"),
        (rules(pinned=[{"id": "i3", "position": 0}]), "constraints.pinned.0.id"),
        (rules(pinned=[{"id": "i1", "position": 0}], excluded=["i1"]), "constraints.pinned.0.id"),
        (rules(pinned=[{"id": "i1", "position": n} for n in (0, 1)]), "constraints.pinned.1.id"),
        (rules(pinned=[{"id": i, "position": 0} for i in ("i1", "i2")]), "constraints.pinned.1.position"),
        (rules(excluded="i1"), "constraints.excluded"),
        (rules(excluded=[1]), "constraints.excluded.0"),
        (rules(at_most=[{"count": 1}]), "constraints.at_most.0"),
        (rules(at_most=[{"feature": "genres", "group": "a", "count": 1}]), "constraints.at_most.0"),
        (rules(at_most=[{"group": "b", "count": 1}]), "constraints.at_most.0.group"),
        (rules(at_most=[{"group": "a", "value": 1, "count": 1}]), "constraints.at_most.0.value"),
        (rules(at_most=[{"group": "a", "count": -1}]), "constraints.at_most.0.count"),
        (rules(at_most=[{"group": "a", "count": 1.5}]), "constraints.at_most.0.count"),
        (rules(at_most=[{"group": "a", "count": 1, "window": 0}]), "constraints.at_most.0.window"),
        (rules(at_most=[{"feature": "price", "count": 1}]), "constraints.at_most.0.feature"),
        (rules(at_most=[{"feature": "genre", "count": 1}]), "constraints.at_most.0.feature"),
        (rules(at_most=[{"feature": "genres", "value": [], "count": 1}]), "constraints.at_most.0.value"),
        (rules(at_most=[{"feature": "genres", "value": "x" * 2000, "count": 1}]),
         "constraints.at_most.0.value"),
        (rules(at_least=[{"feature": "genres", "count": 1}]), "constraints.at_least.0.value"),
        (rules(at_least=[{"feature": "device", "value": "ios", "count": 1}]),
         "constraints.at_least.0.feature"),
        (rules(at_least=[{"group": "a", "count": 2, "top": 1}]), "constraints.at_least.0.count"),
        (rules(at_least=[{"group": "a", "count": 3}]), "constraints.at_least.0.count"),
        (rules(groups={"a": None}), "constraints.groups.a"),
        (rules(groups={"a": [""]}), "constraints.groups.a.0"),
        ({"items": ONE, "context": {"device": {"os": "ios"}}}, "context.device"),
        ({"items": ONE, "context": {"timestamp": "now"}}, "context.timestamp"),
        ({"items": ONE, "context": {"timestamp": -5}}, "context.timestamp"),
        ({"items": ONE, "context": {"timestamp": MAX_TIMESTAMP * 1.01}}, "context.timestamp"),
        (item(price=True), "items.1.features.price"),
        (item(price=MAX_NUMBER + 1), "items.1.features.price"),
        (item(price=-1e19), "items.1.features.price"),
        (item(genres=["drama", 1]), "items.1.features.genres"),
        (item(price="cheap"), "items.1.features.price"),
        (item(price=[1, 2]), "items.1.features.price"),
        (item(embedding=[1, 2]), "items.1.features.embedding"),
        (item(embedding=["a", "b", "c", "d"]), "items.1.features.embedding"),
        (item(embedding=[1e300, 0, 0, 0]), "items.1.features.embedding"),
        (matrix(["price"], b"\0" * 5), "features_f32.data"),
        (matrix(["price"], b"\0" * 8), "features_f32.data"),
        (matrix(["price"], b"\0\0\x80\x7f"), "features_f32.data"),
        (matrix(["price"], "AAAAA"), "features_f32.data"),
        (matrix(["price"], "\u00e9AAA"), "features_f32.data"),
        (matrix(["price", "price"], b"\0" * 8), "features_f32.names.1"),
        (matrix(["price", "genres"], b"\0" * 8), "features_f32.names.1"),
        (matrix(["price", ""], b"\0" * 8), "features_f32.names.1"),
        (matrix([], b""), "features_f32.names"),
        ({"items": ONE, "features_f32": {"names": ["price"]}}, "features_f32.data"),
    ],
)  # fmt: skip
async def test_the_field_is_named(client: Client, body: Any, field: str) -> None:
    assert set(await fields_of(client, body)) == {field}


async def test_every_fault_is_listed(client: Client) -> None:
    body = item(price="cheap", embedding=[1])
    body["items"][0]["features"] = {"price": "dear"}
    expected = {"items.0.features.price", "items.1.features.price", "items.1.features.embedding"}
    faults = await fields_of(client, body)
    assert set(faults) == expected
    assert faults["items.0.features.price"] == "feature 'price': expected a number, got str"


@pytest.mark.parametrize(
    ("limit", "body", "field"),
    [
        ({"max_items": 2}, {"items": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}, "items"),
        ({"max_top_n": 2}, {"items": [{"id": "a"}, {"id": "b"}, {"id": "c"}], "top_n": 3}, "top_n"),
        ({"max_deadline_ms": 500}, {"items": ONE, "deadline_ms": 500.5}, "deadline_ms"),
        ({"max_id_length": 3}, {"items": [{"id": "abcd"}]}, "items.0.id"),
        ({"max_id_length": 3}, {"items": ONE, "user_id": "abcd"}, "user_id"),
        ({"max_features": 1}, item(a=1, b=2), "items.1.features"),
        ({"max_features": 1}, {"items": ONE, "context": {"a": 1, "b": 2}}, "context"),
        ({"max_values": 3}, item(a=["x", "y"], b=1), "items"),
        ({"max_feature_values": 2}, item(a=["x", "y", "z"]), "items.1.features.a"),
        ({"max_feature_values": 2}, item(a="xyz"), "items.1.features.a"),
        ({"max_feature_values": 2}, matrix(["a", "b", "c"], b"\0" * 12), "features_f32.names"),
        ({"max_reasoning_tokens": 1}, {"items": ONE, "reasoning": {"max_tokens": 2}}, "reasoning.max_tokens"),
        ({"max_rules": 1}, rules(at_most=[{"group": "a", "count": 1}] * 2), "constraints.at_most"),
        ({"max_pinned": 1}, rules(pinned=[{"id": "i1", "position": 0}] * 2), "constraints.pinned"),
        ({"max_excluded": 1}, rules(excluded=["i1", "x"]), "constraints.excluded"),
        ({"max_groups": 1}, rules(groups={"b": [], "c": []}), "constraints.groups"),
        ({"max_group_ids": 1}, rules(groups={"b": ["x", "y"]}), "constraints.groups"),
        (
            {"max_limited_groups": 1},
            rules(at_most=[{"feature": "genres", "count": 0}]),
            "constraints.at_most.0",
        ),
        ({"max_lookahead": 1}, {"items": ONE, "reasoning": {"lookahead": 2}}, "reasoning.lookahead"),
    ],
)
async def test_limits_are_settings(serve: Serve, limit: dict[str, int], body: Any, field: str) -> None:
    async with serve(**limit) as client:
        (limited,) = limit.values()
        faults = await fields_of(client, body)
        assert set(faults) == {field}
        assert str(limited) in faults[field]


async def test_undeclared_features_are_ignored(client: Client) -> None:
    plain, told = item(price=3), item(price=3, colour="red")
    results = [(await client.post("/v1/rerank", json=body)).json()["results"] for body in (plain, told)]
    assert results[0] == results[1]
    assert results[0] != (await client.post("/v1/rerank", json=item(price=9))).json()["results"]


async def test_extreme_numbers_are_scaled_and_clipped(client: Client) -> None:
    body = item(price=-MAX_NUMBER, embedding=[1e18, -1e18, 0, 0])
    body["items"][0]["score"] = 1e30
    answer = (await client.post("/v1/rerank", json=body)).json()
    assert answer["fallback"] is None
    assert all(0 < result["score"] <= 1 for result in answer["results"])


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
        "/v1/users/u1/context": {"DELETE", "GET", "PUT"},
        "/livez": {"GET", "HEAD"},
        "/metrics": {"GET"},
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
"""Errors of kinds that are not made from a message alone."""


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
