"""`/v2/rerank`: the same rerank as `/v1/rerank`, in the words of Cohere's and Jina's APIs."""

from typing import Any

import httpx
import pytest
from error_answers import faulty_fields, refused
from faulty_runners import Failing, put_runner
from rerank_client import Client, Serve

from service.bodies.documents import DocumentsResponse
from service.errors import (
    BodyTooLargeError,
    ModelError,
    NotFoundError,
    RateLimitedError,
    UnauthenticatedError,
)
from service.keys import new

DOCUMENTS = [f"i{n}" for n in range(12)]


async def asked(client: Client, **fields: Any) -> httpx.Response:
    return await client.post("/v2/rerank", json={"query": "", "documents": DOCUMENTS, **fields})


async def ranked(client: Client, **fields: Any) -> Any:
    response = await asked(client, **fields)
    assert response.status_code == 200, response.text
    DocumentsResponse.model_validate_json(response.content)
    return response.json()


async def test_it_is_the_same_list(client: Client) -> None:
    own = (await client.rerank(DOCUMENTS, top_n=5, user_id="u")).json()
    answer = await ranked(client, top_n=5, user_id="u", request_id="r-1")
    assert [one["index"] for one in answer["results"]] == [one["index"] for one in own["results"]]
    assert [one["relevance_score"] for one in answer["results"]] == [
        12 / 12,
        11 / 12,
        10 / 12,
        9 / 12,
        8 / 12,
    ]
    assert (answer["id"], answer["model"], answer["meta"]["model_version"]) == ("r-1", "eglr", "1")
    assert (answer["meta"]["context"], answer["meta"]["fallback"]) == ("miss", None)
    assert answer["usage"]["total_tokens"] == own["reasoning"]["tokens"]
    assert not {"warnings"} & answer["meta"].keys()
    assert all("document" not in one for one in answer["results"])


async def test_without_top_n_every_document_comes_back(client: Client) -> None:
    own = (await client.rerank(DOCUMENTS, return_all=True)).json()
    answer = await ranked(client)
    assert [one["index"] for one in answer["results"]] == [one["index"] for one in own["results"]]
    assert sorted(one["index"] for one in answer["results"]) == list(range(12))


async def test_documents_are_items_with_what_is_known_of_them(client: Client) -> None:
    item = {"id": "new", "score": 0.5, "features": {"price": 9.5}}
    own = (await client.rerank([{"id": "i1"}, item, {"id": "i2"}], context={"device": "ios"})).json()
    documents = ["i1", {**item, "text": "Alien"}, {"id": "i2"}]
    answer = await ranked(client, documents=documents, context={"device": "ios"}, return_documents=True)
    assert [one["index"] for one in answer["results"]] == [one["index"] for one in own["results"]]
    told = {one["index"]: one["document"] for one in answer["results"]}
    assert told == {
        0: {"id": "i1", "text": "i1"},
        1: {"id": "new", "text": "Alien"},
        2: {"id": "i2", "text": "i2"},
    }
    assert answer["meta"]["warnings"] == ["documents: 1 of 3 are not in the catalogue"]


async def test_what_is_not_used_is_told(client: Client) -> None:
    answer = await ranked(
        client,
        query="thrillers",
        documents=["i1", {"id": "i2", "features": {"colour": 1, "genres": ["unheard"]}}],
        max_tokens_per_doc=512,
        rank_fields=["title"],
        context={"weather": "rain"},
    )
    assert answer["meta"]["warnings"] == [
        "max_tokens_per_doc: not used",
        "rank_fields: not used",
        "documents.features.colour: not used, the model has no such field",
        "query: not used, the model has no such field",
        "context.weather: not used, the model has no such field",
        "documents.features.genres: not used, some values are unknown",
    ]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"documents": None}, {"documents"}),
        ({"documents": []}, {"documents"}),
        ({"documents": "i1"}, {"documents"}),
        ({"documents": [f"d{n}" for n in range(10_000)]}, {"documents"}),
        ({"documents": ["i1", "i2", "i1"]}, {"documents.2"}),
        ({"documents": ["i1", {"id": "i1"}]}, {"documents.1.id"}),
        ({"documents": [{"text": "Alien"}, {"id": 5}, 5, "", {"id": "i1", "title": "x"}]},
         {"documents.0.id", "documents.1.id", "documents.2", "documents.3", "documents.4.title"}),
        ({"documents": ["i1", "x" * 129]}, {"documents.1"}),
        ({"documents": [{"id": "i1", "features": {"price": "cheap"}}]}, {"documents.0.features.price"}),
        ({"top_n": 0}, {"top_n"}),
        ({"top_n": -1}, {"top_n"}),
        ({"top_n": "3"}, {"top_n"}),
        ({"query": None}, {"query"}),
        ({"query": "x" * 1025}, {"query"}),
        ({"query": "x", "context": {"query": "x" * 1025}}, {"context.query"}),
        ({"user_id": ".."}, {"user_id"}),
        ({"items": [{"id": "i1"}]}, {"items"}),
    ],
)  # fmt: skip
async def test_faults_are_told_of_what_was_sent(client: Client, fields: Any, wrong: set[str]) -> None:
    assert faulty_fields(await asked(client, **fields)).keys() == wrong


async def test_a_query_is_a_feature_of_the_request(client: Client) -> None:
    """Where a model has no such feature, it is told so; and `context` takes precedence."""
    answer = await ranked(client, query="x", context={"query": "y"})
    assert answer["meta"]["warnings"] == ["context.query: not used, the model has no such field"]


async def test_errors_and_fallbacks_are_those_of_v1(serve: Serve) -> None:
    key, lines = new("shop", ["rerank"])
    lines += "requests_per_s = 0.001\nburst = 5\n"
    async with serve(api_keys=lines, max_body_bytes=1000) as client:
        refused(await asked(client), UnauthenticatedError)
        client.headers["authorization"] = f"Bearer {key}"
        refused(await asked(client, model="rerank-v3.5"), NotFoundError)
        refused(await asked(client, query="x" * 1000), BodyTooLargeError)
        put_runner(client, Failing())
        answer = await ranked(client)
        assert answer["meta"]["fallback"] == "model"
        assert [one["index"] for one in answer["results"]] == list(range(12))
        refused(await asked(client, strict=True), ModelError)
        limited = await asked(client)
        while limited.status_code == 200:
            limited = await asked(client)
        refused(limited, RateLimitedError)
        assert int(limited.headers["retry-after"]) >= 1


async def test_it_is_counted_as_what_it_is(client: Client) -> None:
    await ranked(client)
    for labels in ('endpoint="/v2/rerank",code="200"', 'endpoint="/v2/rerank",code="504"'):
        assert await client.metric(f"rerank_requests_total{{{labels}}}") == float('"200"' in labels)
    assert await client.metric("rerank_list_size_count") == 1


async def test_feedback_on_its_list(client: Client) -> None:
    made = (await ranked(client, user_id="u"))["meta"]["recommendation_id"]
    sent = {"recommendation_id": made, "events": [{"type": "click", "item_id": "i2"}]}
    assert (await client.post("/v1/feedback", json=sent)).json()["applied"] == 1
    assert (await ranked(client, user_id="u"))["meta"]["context"] == "hit"
