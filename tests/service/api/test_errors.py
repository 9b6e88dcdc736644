"""Bad input: every error has its status, its type and one shape, and names the field."""

from base64 import b64encode
from typing import Any

import pytest
from rerank_client import Client, Serve

from service.api.answers import ANSWERS
from service.errors import InvalidRequestError, ServiceError


async def fields_of(
    client: Client, body: Any, path: str = "/v1/rerank", method: str = "POST"
) -> dict[str, str]:
    """Faulty fields and their messages, after checking the rest of a 422."""
    content = body if isinstance(body, bytes) else None
    response = await client.request(method, path, content=content, json=None if content is not None else body)
    answer = response.json()
    assert response.status_code == 422, answer
    assert set(answer) == {"error", "error_type", "request_id", "fields"}
    assert answer["error_type"] == "validation"
    assert answer["request_id"] == response.headers["x-request-id"]
    assert all(set(field) == {"field", "message"} for field in answer["fields"])
    return {field["field"]: field["message"] for field in answer["fields"]}


def item(**features: Any) -> dict[str, Any]:
    return {"items": [{"id": "i1"}, {"id": "i2", "features": features}]}


ONE = [{"id": "i1"}]


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
        (b'{"items": [{"id": "i1", "features": {"embedding": [1, NaN]}}]}', "items.0.features.embedding"),
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
        ({"items": ONE, "constraints": {"exclude": []}}, "constraints"),
        ({"items": ONE, "constraints": None}, "constraints"),
        ({"items": ONE, "context": {"device": {"os": "ios"}}}, "context.device"),
        ({"items": ONE, "context": {"timestamp": "now"}}, "context.timestamp"),
        ({"items": ONE, "context": {"timestamp": -5}}, "context.timestamp"),
        (item(price=True), "items.1.features.price"),
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
        ({"max_id_length": 3}, {"items": [{"id": "abcd"}]}, "items.0.id"),
        ({"max_id_length": 3}, {"items": ONE, "user_id": "abcd"}, "user_id"),
        ({"max_features": 1}, item(a=1, b=2), "items.1.features"),
        ({"max_features": 1}, {"items": ONE, "context": {"a": 1, "b": 2}}, "context"),
        ({"max_feature_values": 2}, item(a=["x", "y", "z"]), "items.1.features.a"),
        ({"max_feature_values": 2}, item(a="xyz"), "items.1.features.a"),
        ({"max_feature_values": 2}, matrix(["a", "b", "c"], b"\0" * 12), "features_f32.names"),
        ({"max_reasoning_tokens": 1}, {"items": ONE, "reasoning": {"max_tokens": 2}}, "reasoning.max_tokens"),
    ],
)
async def test_limits_are_settings(serve: Serve, limit: dict[str, int], body: Any, field: str) -> None:
    async with serve(**limit) as client:
        (limited,) = limit.values()
        faults = await fields_of(client, body)
        assert set(faults) == {field}
        assert str(limited) in faults[field]


async def test_undeclared_features_are_passed_over(client: Client) -> None:
    assert (await client.post("/v1/rerank", json=item(colour="red"))).status_code == 200


async def test_extreme_numbers_are_scaled_and_clipped(client: Client) -> None:
    body = item(price=-(2**63), embedding=[1e18, -1e18, 0, 0])
    body["items"][0]["score"] = 1e30
    answer = (await client.post("/v1/rerank", json=body)).json()
    assert answer["fallback"] is None
    assert all(0 < result["score"] <= 1 for result in answer["results"])


async def test_the_body_is_read_no_further_than_the_limit(serve: Serve) -> None:
    async with serve(max_body_bytes=100) as client:

        async def endless() -> Any:
            for _ in range(100):
                yield b" " * 60

        for content in (b" " * 101, endless()):
            response = await client.post("/v1/rerank", content=content)
            assert response.status_code == 413
            assert response.json()["error_type"] == "validation"
            assert "100 bytes" in response.json()["error"]
        assert (await client.post("/v1/rerank", content=b'{"items": [{"id": "i1"}]}')).status_code == 200


async def test_unknown_routes_and_methods_have_the_shape(client: Client) -> None:
    missing, method = await client.get("/nowhere"), await client.get("/v1/rerank")
    assert (missing.status_code, missing.json()["error_type"]) == (404, "not_found")
    assert (method.status_code, method.json()["error_type"]) == (405, "validation")
    assert method.headers["allow"] == "POST"
    assert missing.json()["request_id"] == missing.headers["x-request-id"]


async def test_an_unexpected_error_has_the_shape_and_tells_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("service.api.rerank.check_rerank", broken)
    response = await client.post("/v1/rerank", json={"items": ONE, "request_id": "r"})
    assert response.status_code == 500
    assert response.json() == {"error": "internal error", "error_type": "unavailable", "request_id": "r"}
    assert response.headers["x-request-id"] == "r"
    assert await client.metric('rerank_requests_total{code="500",endpoint="/v1/rerank"}') == 1


async def test_a_caller_that_leaves_while_sending_is_no_error_of_ours(client: Client) -> None:
    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def sent(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/v1/rerank", "headers": [], "query_string": b""}
    await client.app(scope, gone, sent)
    assert await client.metric('rerank_requests_total{code="400",endpoint="/v1/rerank"}') == 1


def test_every_error_has_its_row() -> None:
    def leaves(error: type[Exception]) -> set[type[Exception]]:
        below = error.__subclasses__()
        return set().union(*map(leaves, below)) if below else {error}

    assert leaves(ServiceError) <= set(ANSWERS)
    assert ANSWERS[InvalidRequestError].status == 422
