"""What is wrong with a rerank's body is told by field."""

import json
from base64 import b64encode
from typing import Any

import pytest
from error_answers import faulty_fields
from rerank_client import Client, Serve

from service.bodies.common import MAX_NUMBER, MAX_TIMESTAMP


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
        ({"items": ONE, "trace_candidates": 3}, "trace_candidates"),
        ({"items": ONE, "explain": True, "trace_candidates": 11}, "trace_candidates"),
        ({"items": ONE, "explain": True, "trace_candidates": -1}, "trace_candidates"),
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
        (
            {"max_trace_candidates": 2},
            {"items": ONE, "explain": True, "trace_candidates": 3},
            "trace_candidates",
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


async def test_what_was_expected_is_told_in_words_that_can_be_read(client: Client) -> None:
    assert await fields_of(client, {"items": ONE, "top_n": 1.5, "request_id": "two words"}) == {
        "top_n": "Expected a whole number",
        "request_id": r"Expected `str` of the form ^[\x21-\x7e]{1,128}$",
    }
    assert await fields_of(client, item(title="x" * 1025)) == {
        "items.1.features.title": "at most 1024 characters, got 1025"
    }
