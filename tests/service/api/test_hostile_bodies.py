"""Whatever is sent: an answer in the one shape, in few words, soon. `bench.hostile_bodies` measures them."""

import json
import math
from copy import deepcopy
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from rerank_client import Client, Serve

from bench.hostile_bodies import asking, hostile, names_of
from service.api.decoding import LISTED_BYTES, parse
from service.bodies.rerank import RerankRequest
from service.bodies.users import ContextBody, FeedbackRequest
from service.errors import MOST_CHARACTERS, MOST_FAULTS, InvalidRequestError
from service.settings import Settings

MODELS = (RerankRequest, FeedbackRequest, ContextBody)
CPU_S = 1.0
"""A generous bound: what is within it took minutes where every fault was looked for."""


async def test_the_worst_bodies_get_short_answers(client: Client, bundle: Path) -> None:
    ask, limits = asking(client.app), client.service.settings
    statuses = set()
    for size in (LISTED_BYTES - 1000, limits.max_body_bytes - 1000):
        for sent in hostile(size, names_of(bundle), limits.max_values):
            least_s = math.inf
            for _ in range(2):  # what runs for the first time may be compiled
                started = process_time()
                status, answer = await ask(sent)
                least_s = min(least_s, process_time() - started)
                if least_s < CPU_S:
                    break
            assert least_s < CPU_S, sent.name
            statuses.add(status)
            if status == 422:
                told = json.loads(answer)
                assert 1 <= len(told["fields"]) <= 20, sent.name
                assert len(answer) < 20_000, sent.name
            else:
                assert status in (200, 204, 404), (sent.name, answer[:200])
    assert {200, 204, 422} <= statuses


async def test_faults_are_told_up_to_the_setting(serve: Serve) -> None:
    body = {"items": [{"id": "", "score": "high"} for _ in range(30)]}
    for given_, told in (({}, 20), ({"max_faults": 3}, 3), ({"max_faults": 50}, 50)):
        async with serve(**given_) as client:
            response = await client.post("/v1/rerank", json=body)
            assert response.status_code == 422
            assert len(response.json()["fields"]) == told


async def test_of_a_long_body_the_first_fault_is_named(client: Client) -> None:
    long = [{"id": f"i{n}", "features": {"plot": "x" * 100}} for n in range(1000)]
    for fault, field in (
        ({"id": 5}, "items.999.id"),
        ({"rank": 1}, "items.999.rank"),
        ({"features": {"price": {}}}, "items.999.features"),
        ({"score": "5"}, "items.999.score"),
    ):
        items = deepcopy(long)
        items[-1].update(fault)  # type: ignore[arg-type]
        content = json.dumps({"items": items})
        assert len(content) > LISTED_BYTES
        (told,) = (await client.post("/v1/rerank", content=content)).json()["fields"]
        assert told["field"] == field


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/rerank", b'{"items":[{"id":"a"}],"top_n":"999"}', "top_n"),
        ("/v1/rerank", b'{"items":[{"id":"a"}],"top_n":5.5}', "top_n"),
        ("/v1/rerank", b'{"items":[{"id":"a"}],"top_n":true}', "top_n"),
        ("/v1/rerank", b'{"items":[{"id":"a"}],"strict":"false"}', "strict"),
        ("/v1/rerank", b'{"items":[{"id":"a"}],"strict":0}', "strict"),
        ("/v1/rerank", b'{"items":[{"id":"a"}],"deadline_ms":"40"}', "deadline_ms"),
        ("/v1/rerank", b'{"items":[{"id":"a"}],"context":{"timestamp":false}}', "context.timestamp"),
        ("/v1/rerank", b'{"items":[{"id":"a"}],"top_n":' + b"9" * 10_000 + b"}", "top_n"),
        ("/v1/rerank", b'{"items":[{"id":"a"}],"deadline_ms":1e400}', "deadline_ms"),
        ("/v1/rerank", b'{"items":[{"id":"a","features":{"a.b":' + b"[" * 5000 + b"]" * 5000 + b"}}]}", ""),
        (
            "/v1/feedback",
            b'{"recommendation_id":"r","events":[{"item_id":"i","type":"click","timestamp":false}]}',
            "events.0.timestamp",
        ),
        (
            "/v1/feedback",
            b'{"recommendation_id":"r","events":[{"item_id":"i","type":"click","position":"0"}]}',
            "events.0.position",
        ),
    ],
)
async def test_types_are_strict(client: Client, path: str, body: bytes, field: str) -> None:
    (told,) = (await client.post(path, content=body)).json()["fields"]
    assert told["field"] == field or not field


async def test_an_integer_may_have_a_point(client: Client) -> None:
    body = b'{"items":[{"id":"i1"},{"id":"i2"}],"top_n":1.0,"sampling":{"seed":7.0}}'
    answer = (await client.post("/v1/rerank", content=body)).json()
    assert len(answer["results"]) == 1
    assert answer["fallback"] is None
    assert answer["sampling"]["seed"] == 7


async def test_of_a_repeated_key_the_last_value_counts(client: Client) -> None:
    body = b'{"items":[{"id":"i1"},{"id":"i2"},{"id":"i3"}],"top_n":3,"top_n":1}'
    assert len((await client.post("/v1/rerank", content=body)).json()["results"]) == 1


TOKENS = st.sampled_from(
    [
        *(
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            '"',
            "{}",
            "[]",
            "null",
            "true",
            "0",
            "-1",
            "1e400",
            "NaN",
            "9" * 5000,
        ),
        *('"items":', '"id":', '"a"', '"features":', '"events":', '"history":', '"profile":', '"top_n":'),
        *('"\\ud800"', "\\", "\x00", "\xff", "9" * 5000, "[" * 2000, '{"a":' * 2000),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["items", "id", "features", "context", "events", "history", "profile", "a", "`"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
BODIES = (
    st.binary(max_size=200)
    | st.lists(TOKENS, max_size=30).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass"))
    | VALUES.map(lambda value: json.dumps(value).encode())
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(model=st.sampled_from(MODELS), body=BODIES)
def test_a_body_is_read_or_its_faults_are_told(model: Any, body: bytes) -> None:
    faults = []
    try:
        parse(model, body)
    except InvalidRequestError as error:
        faults = error.faults
        event(f"{len(faults)} faults")
    assert len(faults) <= MOST_FAULTS
    for field, message in faults:
        assert 1 <= len(field) <= MOST_CHARACTERS + 3
        assert 1 <= len(message) <= MOST_CHARACTERS + 3


def test_a_legal_list_of_the_largest_size_fits_the_largest_body() -> None:
    """2,000 items with 64 numbers each, as a matrix."""
    limits = Settings(bundle="unopened")
    ids = sum(len(f'{{"id":"item-{n:08}"}},') for n in range(limits.max_items))
    matrix = limits.max_items * limits.max_features * 4 * 4 / 3
    assert ids + matrix < limits.max_body_bytes
