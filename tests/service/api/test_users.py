"""User contexts and feedback over HTTP, on the in-process store."""

import pytest
from error_answers import faulty_fields, refused
from rerank_client import Client, Serve

from bundle.features.history import Interaction, UserContext
from service.errors import NotFoundError, UnknownRecommendationError

ITEMS = [f"i{n}" for n in range(12)]
CONTEXT = {
    "profile": {"taste": [0.1, 0.2, 0.3, 0.4], "plan": "free"},
    "history": [
        {"item_id": "i4", "type": "impression"},
        {"item_id": "i4", "type": "click", "timestamp": 1700000009.5},
    ],
}


async def test_put_get_delete(client: Client) -> None:
    path = "/v1/users/u1/context"
    refused(await client.get(path), NotFoundError)
    assert (await client.put(path, json=CONTEXT)).status_code == 204
    stored = (await client.get(path)).json()
    assert stored["profile"] == CONTEXT["profile"]
    assert stored["history"] == [
        {"item_id": "i4", "type": "impression", "timestamp": None},
        {"item_id": "i4", "type": "click", "timestamp": 1700000009.5},
    ]
    assert (await client.put(path, json={"history": CONTEXT["history"][:1]})).status_code == 204
    replaced = (await client.get(path)).json()
    assert (replaced["profile"], len(replaced["history"])) == ({}, 1)
    for _ in range(2):
        deleted = await client.delete(path)
        assert (deleted.status_code, deleted.content) == (204, b"")
    refused(await client.get(path), NotFoundError)


async def test_user_ids_may_hold_anything(client: Client) -> None:
    assert (await client.put("/v1/users/a%2Fb%20%C3%BC/context", json=CONTEXT)).status_code == 204
    assert (await client.rerank(ITEMS, user_id="a/b ü")).json()["context"] == "hit"


async def test_history_is_bounded(serve: Serve) -> None:
    async with serve(max_history=2) as client:
        history = [{"item_id": f"i{n}", "type": "click"} for n in range(5)]
        await client.put("/v1/users/u/context", json={"history": history})
        kept = (await client.get("/v1/users/u/context")).json()["history"]
        assert [event["item_id"] for event in kept] == ["i3", "i4"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"profile": {"taste": [1, 2]}}, "profile.taste"),
        ({"profile": {"taste": {"a": 1}}}, "profile.taste"),
        ({"history": [{"item_id": "i1", "type": "Click"}]}, "history.0.type"),
        ({"history": [{"item_id": "i1", "type": "x" * 33}]}, "history.0.type"),
        ({"history": [{"type": "click"}]}, "history.0.item_id"),
        ({"history": [{"item_id": "i" * 129, "type": "click"}]}, "history.0.item_id"),
        ({"history": [{"item_id": "i1", "type": "click", "timestamp": -1}]}, "history.0.timestamp"),
        ({"history": [{"item_id": "i1", "type": "click", "timestamp": 1.7e12}]}, "history.0.timestamp"),
        ({"likes": []}, "likes"),
    ],
)
async def test_bad_contexts(client: Client, body: object, field: str) -> None:
    assert [*faulty_fields(await client.put("/v1/users/u/context", json=body))] == [field]
    refused(await client.get("/v1/users/u/context"), NotFoundError)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_long_user_ids(client: Client, method: str) -> None:
    body = {"json": {}} if method == "PUT" else {}
    response = await client.request(method, f"/v1/users/{'u' * 129}/context", **body)
    assert [*faulty_fields(response)] == ["user_id"]


async def test_a_rerank_after_the_202_sees_the_events(client: Client) -> None:
    """The guarantee of POST /v1/feedback, seen in what the model makes of it."""

    async def scores() -> list[float]:
        answer = (await client.rerank(ITEMS, user_id="u", reasoning={"max_tokens": 0})).json()
        return [result["score"] for result in answer["results"]]

    first = (await client.rerank(ITEMS, user_id="u")).json()
    assert first["context"] == "miss"
    before = await scores()
    for events in (
        [{"type": "impression", "item_id": "i1", "position": 0}, {"type": "click", "item_id": "i2"}],
        [{"type": "click", "item_id": "i1", "timestamp": 1700000000}],
    ):
        sent = {"request_id": "f", "recommendation_id": first["recommendation_id"], "events": events}
        accepted = await client.post("/v1/feedback", json=sent)
        assert accepted.status_code == 202
        count = len(events)
        assert accepted.json() == {"request_id": "f", "accepted": count, "applied": count, "ignored": {}}
        after = await scores()
        assert after != before
        before = after
    history = (await client.get("/v1/users/u/context")).json()["history"]
    assert [(e["item_id"], e["type"]) for e in history] == [
        ("i1", "impression"),
        ("i2", "click"),
        ("i1", "click"),
    ]
    assert history[0]["timestamp"] > 1.7e9, "the time of receipt"
    assert (await client.rerank(ITEMS, user_id="u")).json()["context"] == "hit"
    assert await client.metric("rerank_feedback_events_total") == 3


async def test_feedback_on_an_anonymous_list_is_accepted_and_applied_to_nobody(client: Client) -> None:
    made = (await client.rerank(ITEMS)).json()["recommendation_id"]
    sent = {"recommendation_id": made, "events": [{"type": "click", "item_id": "i1"}]}
    response = await client.post("/v1/feedback", json=sent)
    assert (response.status_code, response.json()["applied"]) == (202, 0)


async def test_feedback_on_an_unknown_list(client: Client) -> None:
    sent = {"recommendation_id": "never", "events": [{"type": "click", "item_id": "i1"}]}
    refused(await client.post("/v1/feedback", json=sent), UnknownRecommendationError)


async def test_feedback_after_forgetting_does_not_bring_the_person_back(client: Client) -> None:
    made = (await client.rerank(ITEMS, user_id="u")).json()["recommendation_id"]
    await client.delete("/v1/users/u/context")
    sent = {"recommendation_id": made, "events": [{"type": "click", "item_id": "i1"}]}
    refused(await client.post("/v1/feedback", json=sent), UnknownRecommendationError)
    refused(await client.get("/v1/users/u/context"), NotFoundError)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"events": [{"type": "click", "item_id": "i1"}]}, "recommendation_id"),
        ({"recommendation_id": "r", "events": []}, "events"),
        ({"recommendation_id": "r", "events": [{"type": "click", "item_id": "i1"}] * 101}, "events"),
        ({"recommendation_id": "r", "events": [{"type": "no good", "item_id": "i1"}]}, "events.0.type"),
        ({"recommendation_id": "r", "events": [{"type": "click", "item_id": ""}]}, "events.0.item_id"),
        (
            {"recommendation_id": "r", "events": [{"type": "click", "item_id": "i1", "position": -1}]},
            "events.0.position",
        ),
    ],
)
async def test_bad_feedback(client: Client, body: object, field: str) -> None:
    assert [*faulty_fields(await client.post("/v1/feedback", json=body))] == [field]


async def test_a_stored_profile_of_another_model_is_left_out(client: Client) -> None:
    """It was valid when it was put; that is not the fault of the one who reranks."""
    history = (Interaction("i1", "click"),)
    await client.service.contexts.replace("u", UserContext({"taste": "sweet"}, history))
    answer = await client.rerank(ITEMS, user_id="u")
    assert answer.status_code == 200
    assert (answer.json()["context"], answer.json()["fallback"]) == ("hit", None)
