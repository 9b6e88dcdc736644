"""User contexts over HTTP, on the in-process store; ids that are odd."""

from urllib.parse import quote

import pytest
from error_answers import faulty_fields, refused
from rerank_client import Client, Serve

from bundle.features.history import Interaction, UserContext
from service.errors import NotFoundError

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
        {"item_id": "i4", "type": "impression", "timestamp": None, "features": None},
        {"item_id": "i4", "type": "click", "timestamp": 1700000009.5, "features": None},
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


async def test_profiles_are_bounded_in_bytes(serve: Serve) -> None:
    async with serve(max_profile_bytes=50) as client:
        for tail, status in (("x" * 34, 204), ("x" * 35, 422), ("é" * 18, 422)):
            response = await client.put("/v1/users/u/context", json={"profile": {"plan": "free " + tail}})
            assert response.status_code == status, response.text
        assert [*faulty_fields(response)] == ["profile"]


NEW = {"price": 3.5, "genres": ["drama"], "embedding": [0.5, -0.5, 0.0, 0.1]}
"""Of an item that the bundle lacks."""


async def test_a_click_on_an_item_known_only_from_its_features_counts(client: Client) -> None:
    async def scores(user_id: str) -> list[float]:
        answer = (await client.rerank(ITEMS, user_id=user_id)).json()
        return [result["score"] for result in answer["results"]]

    sent = [*({"id": item} for item in ITEMS), {"id": "new", "features": NEW}]
    for user_id, features in (("told", NEW), ("untold", None)):
        made = (await client.rerank(sent, user_id=user_id)).json()["recommendation_id"]
        event = {"type": "click", "item_id": "new", "timestamp": 1700000009.5, "features": features}
        body = {"recommendation_id": made, "events": [event]}
        assert (await client.post("/v1/feedback", json=body)).json()["applied"] == 1
        known = (await client.get(f"/v1/users/{user_id}/context")).json()
        assert known["history"] == [event]
        assert (await client.put(f"/v1/users/{user_id}-again/context", json=known)).status_code == 204
    assert await scores("untold") == await scores("stranger")
    assert await scores("told") != await scores("stranger")
    assert await scores("told") == await scores("told-again")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"price": "dear"}, "expected a number"),
        ({"embedding": [1.0]}, "expected 4 finite numbers"),
        ({"genres": ["x" * 5000]}, "at most 4096 bytes"),
        ({f"f{n}": 1 for n in range(65)}, "at most 64 features"),
    ],
)
async def test_features_of_an_event_are_judged(client: Client, features: object, message: str) -> None:
    event = {"type": "click", "item_id": "new", "features": features}
    for send, path, field in (
        (client.post, "/v1/users/u/events", "events"),
        (client.put, "/v1/users/u/context", "history"),
    ):
        faults = faulty_fields(await send(path, json={field: [{"type": "click", "item_id": "i1"}, event]}))
        assert [name for name in faults if not name.startswith(f"{field}.1.features")] == []
        assert message in " ".join(faults.values())


async def test_features_of_an_event_that_fit_another_model_cost_nothing(client: Client) -> None:
    misfit = Interaction("new", "click", 1.0, {"price": "dear"})
    await client.service.contexts.replace("u", UserContext({}, (misfit,)))
    answer = (await client.rerank(ITEMS, user_id="u")).json()
    assert (answer["context"], answer["fallback"]) == ("hit", None)


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
        ({"history": [{"item_id": "i1", "type": "click", "timestamp": 1e21}]}, "history.0.timestamp"),
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
