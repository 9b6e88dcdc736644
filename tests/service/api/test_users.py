"""User contexts and feedback over HTTP, on the in-process store."""

from urllib.parse import quote

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


ODD_IDS = [
    "dan\n",
    "\ndan",
    "dan\r\n",
    "\n",
    "%0A",
    "%ff",
    "\ufffd",
    "\x00",
    "é",
    "e\u0301",
    "/",
    "a//b",
    "?x",
    "#",
    "+",
    " ",
]
"""Ids that some part of a path might take for others."""


async def test_ids_are_judged_alike_in_body_and_path(client: Client) -> None:
    for number, user_id in enumerate(ODD_IDS):
        made = (await client.rerank([f"i{number}", "i99"], user_id=user_id)).json()["recommendation_id"]
        event = {"type": "click", "item_id": f"i{number}"}
        sent = {"recommendation_id": made, "events": [event]}
        assert (await client.post("/v1/feedback", json=sent)).json()["applied"] == 1
        path = f"/v1/users/{quote(user_id, safe='')}/events"
        assert (await client.post(path, json={"events": [event]})).json()["applied"] == 1
    for number, user_id in enumerate(ODD_IDS):
        path = f"/v1/users/{quote(user_id, safe='')}/context"
        history = (await client.get(path)).json()["history"]
        assert [event["item_id"] for event in history] == [f"i{number}"] * 2
        assert (await client.delete(path)).status_code == 204
        assert (await client.rerank(ITEMS, user_id=user_id)).json()["context"] == "miss"


@pytest.mark.parametrize("sent", ["%ff", "a%C3", "%ED%A0%80", "%C0%AF", "x%ffy/z"])
async def test_ids_in_paths_that_are_no_utf8(client: Client, sent: str) -> None:
    for method in ("GET", "DELETE"):
        response = await client.request(method, f"/v1/users/{sent}/context")
        assert [*faulty_fields(response)] == ["user_id"]
    response = await client.put(f"/v1/users/{sent}/context", json=CONTEXT)
    assert [*faulty_fields(response)] == ["user_id"]
    events = [{"type": "click", "item_id": "i1"}]
    response = await client.post(f"/v1/users/{sent}/events", json={"events": events})
    assert [*faulty_fields(response)] == ["user_id"]


@pytest.mark.parametrize("user_id", [".", ".."])
async def test_ids_that_paths_leave_out(client: Client, user_id: str) -> None:
    """Clients and proxies do, however they are encoded."""
    assert [*faulty_fields(await client.rerank(ITEMS, user_id=user_id))] == ["user_id"]


@pytest.mark.parametrize("path", ["/v1/users/u%2Fcontext", "/v1/users/u/context%0A", "/v1%2Fusers/u/context"])
async def test_a_route_is_not_what_it_looks_like(client: Client, path: str) -> None:
    await client.put("/v1/users/u/context", json=CONTEXT)
    assert (await client.delete(path)).status_code == 404
    assert (await client.get("/v1/users/u/context")).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/rerank", r'{"user_id":"\ud800","items":[{"id":"a"}]}', "user_id"),
        ("/v1/rerank", r'{"user_id":"u","items":[{"id":"a"},{"id":"x\udc00x"}]}', "items.1.id"),
        (
            "/v1/feedback",
            r'{"recommendation_id":"r","events":[{"item_id":"\ud800\ud800","type":"c"}]}',
            "events.0.item_id",
        ),
        (
            "/v1/feedback",
            r'{"recommendation_id":"r","events":[{"item_id":"i","type":"c","event_id":"\udfff"}]}',
            "events.0.event_id",
        ),
    ],
)
async def test_half_a_surrogate_pair_is_no_text(client: Client, path: str, body: str, field: str) -> None:
    assert [*faulty_fields(await client.post(path, content=body))] == [field]


async def test_a_repeated_event_counts_once(client: Client) -> None:
    made = (await client.rerank(ITEMS, user_id="u")).json()["recommendation_id"]
    events = [
        {"type": "impression", "item_id": "i2", "event_id": "e1"},
        {"type": "click", "item_id": "i2", "event_id": "\n" * 128},
        {"type": "click", "item_id": "i3"},
    ]
    sent = {"request_id": "f", "recommendation_id": made, "events": events}
    answer = {"request_id": "f", "accepted": 3}
    first = await client.post("/v1/feedback", json=sent)
    none = {"applied": 3, "ignored": {}, "ignored_events": []}
    assert (first.status_code, first.json()) == (202, {**answer, **none})
    again = await client.post("/v1/feedback", json=sent)
    twice = [{"index": index, "reason": "duplicate"} for index in (0, 1)]
    told = {"applied": 1, "ignored": {"duplicate": 2}, "ignored_events": twice}
    assert (again.status_code, again.json()) == (202, {**answer, **told})
    history = (await client.get("/v1/users/u/context")).json()["history"]
    assert [event["item_id"] for event in history] == ["i2", "i2", "i3", "i3"]
    assert await client.metric('rerank_feedback_events_ignored_total{reason="duplicate"}') == 2
    for wrong in ("", "e" * 129, 5):
        events[0]["event_id"] = wrong
        assert [*faulty_fields(await client.post("/v1/feedback", json=sent))] == ["events.0.event_id"]


async def test_profiles_are_bounded_in_bytes(serve: Serve) -> None:
    async with serve(max_profile_bytes=50) as client:
        for tail, status in (("x" * 34, 204), ("x" * 35, 422), ("é" * 18, 422)):
            response = await client.put("/v1/users/u/context", json={"profile": {"plan": "free " + tail}})
            assert response.status_code == status, response.text
        assert [*faulty_fields(response)] == ["profile"]


async def test_texts_in_lists_are_bounded_in_bytes(serve: Serve) -> None:
    async with serve(max_feature_bytes=40) as client:
        for words, status in (
            (["x" * 20, "y" * 20], 200),
            (["x" * 20, "y" * 21], 422),
            (["é" * 20, "y"], 422),
        ):
            response = await client.rerank([{"id": "i1", "features": {"unheard": words}}])
            assert response.status_code == status, response.text
        assert [*faulty_fields(response)] == ["items.0.features.unheard"]


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
        whole = {"accepted": count, "applied": count, "ignored": {}, "ignored_events": []}
        assert accepted.json() == {"request_id": "f", **whole}
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


async def test_events_outside_a_list_are_seen_by_the_next_rerank(client: Client) -> None:
    path = "/v1/users/a%2Fb/events"
    sent = {
        "request_id": "e",
        "events": [
            {"type": "zap", "item_id": "i1", "event_id": "e0"},
            {"type": "click", "item_id": "i1", "event_id": "e1"},
            {"type": "impression", "item_id": "never listed", "timestamp": 1700000000},
            {"type": "click", "item_id": "i1", "event_id": "e1"},
        ],
    }
    answer = await client.post(path, json=sent)
    assert answer.status_code == 202
    ignored = [{"index": 0, "reason": "unknown_type"}, {"index": 3, "reason": "duplicate"}]
    assert answer.json() == {"request_id": "e", "applied": 2, "ignored": ignored}
    assert (await client.rerank(ITEMS, user_id="a/b")).json()["context"] == "hit"
    history = (await client.get("/v1/users/a%2Fb/context")).json()["history"]
    assert [(e["item_id"], e["type"]) for e in history] == [("i1", "click"), ("never listed", "impression")]
    made = (await client.rerank(ITEMS, user_id="a/b")).json()["recommendation_id"]
    again = await client.post("/v1/feedback", json={"recommendation_id": made, "events": sent["events"][1:2]})
    assert again.json()["ignored"] == {"duplicate": 1}, "an event is one, however it comes"
    assert await client.metric('rerank_feedback_events_ignored_total{reason="unknown_type"}') == 1
    assert await client.metric("rerank_feedback_events_total") == 5


async def test_feedback_that_counts_for_nothing_is_told(client: Client) -> None:
    made = (await client.rerank(["i1", "i2"], user_id="u")).json()["recommendation_id"]
    events = [
        {"type": "zap", "item_id": "i1"},
        {"type": "click", "item_id": "i7"},
        {"type": "click", "item_id": "i2"},
        {"type": "zap", "item_id": "i7"},
    ]
    answer = (await client.post("/v1/feedback", json={"recommendation_id": made, "events": events})).json()
    assert (answer["accepted"], answer["applied"]) == (4, 1)
    assert answer["ignored"] == {"unknown_type": 2, "not_in_list": 1}
    assert answer["ignored_events"] == [
        {"index": 0, "reason": "unknown_type"},
        {"index": 1, "reason": "not_in_list"},
        {"index": 3, "reason": "unknown_type"},
    ]
    nothing = {"recommendation_id": made, "events": events[:1]}
    assert (await client.post("/v1/feedback", json=nothing)).json()["applied"] == 0
    nothing["recommendation_id"] = "never"
    refused(await client.post("/v1/feedback", json=nothing), UnknownRecommendationError)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "events"),
        ({"events": []}, "events"),
        ({"events": None}, "events"),
        ({"events": [{"type": "click", "item_id": "i1"}] * 101}, "events"),
        ({"events": [{"type": "click"}]}, "events.0.item_id"),
        ({"events": [{"type": "click", "item_id": "i" * 129}]}, "events.0.item_id"),
        ({"events": [{"type": "click", "item_id": "i1", "event_id": ""}]}, "events.0.event_id"),
        ({"recommendation_id": "r", "events": [{"type": "click", "item_id": "i1"}]}, "recommendation_id"),
    ],
)
async def test_bad_events(client: Client, body: object, field: str) -> None:
    assert [*faulty_fields(await client.post("/v1/users/u/events", json=body))] == [field]
    refused(await client.get("/v1/users/u/context"), NotFoundError)


async def test_lists_of_nobody_take_no_users_place(serve: Serve) -> None:
    async with serve(memory_max_recommendations=1) as client:
        made = (await client.rerank(ITEMS, user_id="u")).json()["recommendation_id"]
        for _ in range(3):
            await client.rerank(ITEMS)
        sent = {"recommendation_id": made, "events": [{"type": "click", "item_id": "i1"}]}
        assert (await client.post("/v1/feedback", json=sent)).json()["applied"] == 1


async def test_feedback_on_an_anonymous_list_is_accepted_and_applied_to_nobody(client: Client) -> None:
    made = (await client.rerank(ITEMS)).json()["recommendation_id"]
    sent = {"recommendation_id": made, "events": [{"type": "click", "item_id": "i1"}] * 2}
    answer = await client.post("/v1/feedback", json=sent)
    assert answer.status_code == 202
    assert (answer.json()["applied"], answer.json()["ignored"]) == (0, {"anonymous": 2})
    sent["recommendation_id"] = made[:-1] + "g"
    refused(await client.post("/v1/feedback", json=sent), UnknownRecommendationError)


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


async def test_a_profile_is_told_what_the_model_has_no_field_for(client: Client) -> None:
    profile = {"taste": [1.0, 2.0, 3.0, 4.0], "größe": 3}
    answer = await client.put("/v1/users/u/context", json={"profile": profile})
    assert (answer.status_code, answer.headers["x-ignored-fields"]) == (204, "profile.gr%C3%B6%C3%9Fe")
    known = await client.put("/v1/users/u/context", json={"profile": {"taste": None}})
    assert "x-ignored-fields" not in known.headers
