"""What people did, told by feedback on a list or outside one, on the in-process store."""

import pytest
from error_answers import faulty_fields, refused
from rerank_client import Client, Serve

from service.errors import NotFoundError, UnknownRecommendationError

ITEMS = [f"i{n}" for n in range(12)]


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
    faults = faulty_fields(await client.post("/v1/feedback", json=body))
    assert [*faults] == [field]
    if field.endswith("type"):
        assert faults[field] == "Expected `str` of the form ^[a-z][a-z0-9_]{0,31}$"
