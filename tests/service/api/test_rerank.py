"""What a rerank answers, with a real bundle."""

import asyncio
import json
import math
import shutil
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from error_answers import faulty_fields, refused
from rerank_client import Client, Serve

from bundle.manifest import MANIFEST
from service.errors import NotFoundError

if TYPE_CHECKING:
    from tiny_bundle import TinyBundles

ITEMS = [f"i{n}" for n in range(24)]


def ids(answer: dict[str, Any]) -> list[str]:
    return [result["id"] for result in answer["results"]]


async def test_answers_a_reordered_list(client: Client) -> None:
    response = await client.rerank(ITEMS, request_id="mine", top_n=5)
    answer = response.json()
    assert response.status_code == 200
    assert (answer["request_id"], response.headers["x-request-id"]) == ("mine", "mine")
    assert (answer["model"], answer["model_version"]) == ("eglr", "1")
    assert answer["fallback"] is None
    assert answer["context"] == "anonymous"
    assert answer["missing_ids"] == []
    assert answer["sampling"] is None
    assert answer["took_ms"] > 0
    assert len(answer["results"]) == len(set(ids(answer))) == 5
    assert ids(answer) != ITEMS[:5]
    for result in answer["results"]:
        assert ITEMS[result["index"]] == result["id"]
        assert 0 < result["score"] <= 1
        assert result["propensity"] == 1.0
    assert set(answer["reasoning"]) == {"tokens", "stop"}


async def test_greedy_answers_repeat(client: Client) -> None:
    first, second = [(await client.rerank(ITEMS)).json() for _ in range(2)]
    assert first["results"] == second["results"]
    assert first["recommendation_id"] != second["recommendation_id"]
    assert first["request_id"] != second["request_id"]


async def test_the_slate_length_of_the_model_is_the_default(client: Client) -> None:
    assert len((await client.rerank(ITEMS)).json()["results"]) == 10


@pytest.mark.parametrize(
    ("asked", "listed"),
    [
        ({}, 5),
        ({"return_all": True}, 25),
        ({"top_n": 3}, 3),
        ({"constraints": {"excluded": ["i0"]}}, 5),
        ({"deadline_ms": 1e-6}, 5),
        ({"deadline_ms": 1e-6, "constraints": {"excluded": ["i0"]}}, 5),
    ],
)
async def test_a_models_own_slate_length_is_within_the_limit(
    serve: Serve, bundle: Path, tmp_path: Path, asked: dict[str, Any], listed: int
) -> None:
    shutil.copytree(bundle, tmp_path, dirs_exist_ok=True)
    manifest = json.loads((bundle / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(manifest | {"slate_length": 9_999}))
    async with serve(bundle=tmp_path, max_top_n=5) as client:
        results = (await client.rerank(["nobody", *ITEMS], **asked)).json()["results"]
    ranked = 0 if "deadline_ms" in asked else min(listed, 5)
    assert [result["score"] is not None for result in results] == [n < ranked for n in range(listed)]


async def test_top_n_beyond_the_list_is_no_error(client: Client) -> None:
    for wanted in (50, 10**9):
        answer = (await client.rerank(ITEMS[:3], top_n=wanted)).json()
        assert sorted(ids(answer)) == sorted(ITEMS[:3])


async def test_return_all_appends_the_rest_in_the_callers_order(client: Client) -> None:
    answer = (await client.rerank(ITEMS, top_n=4, return_all=True)).json()
    top, rest = answer["results"][:4], answer["results"][4:]
    assert ids(answer)[:4] == ids((await client.rerank(ITEMS, top_n=4)).json())
    assert [r["id"] for r in rest] == [item for item in ITEMS if item not in {r["id"] for r in top}]
    assert {(r["score"], r["propensity"]) for r in rest} == {(None, None)}


async def test_a_model_that_starts_from_the_callers_scores(serve: Serve, tiny_bundles: "TinyBundles") -> None:
    """Untrained it goes by nothing else: who has no score is where their mean is, equals keep their order."""
    scores = [0.1, None, 0.5, 0.5, None, 0.9]  # 0.5 in the mean
    items = [{"id": f"i{n}"} | ({} if score is None else {"score": score}) for n, score in enumerate(scores)]
    async with serve(bundle=tiny_bundles(base_score=True)) as client:
        answer = (await client.rerank(items)).json()
        assert ids(answer) == ["i5", "i1", "i2", "i3", "i4", "i0"]
        assert answer["fallback"] is None
        assert ids((await client.rerank(ITEMS)).json()) == ITEMS[:10], "no scores: the caller's order"
        new = {"id": "new", "score": 0.7}  # now the mean is 0.54
        answer = (await client.rerank([{"id": "nobody"}, *items, new])).json()
        assert ids(answer) == ["i5", "new", "i1", "i4", "i2", "i3", "i0", "nobody"]
        assert answer["missing_ids"] == ["nobody", "new"]


async def test_one_item_is_certain(client: Client) -> None:
    answer = (await client.rerank(["i3"], explain=True)).json()
    assert answer["results"] == [{"id": "i3", "index": 0, "score": 1.0, "propensity": 1.0}]
    assert answer["reasoning"]["tokens"] == 0


async def test_explain_traces_every_position(client: Client) -> None:
    answer = (await client.rerank(ITEMS, explain=True)).json()
    trace = answer["reasoning"]["trace"]
    assert [t["position"] for t in trace] == list(range(10))
    assert [t["id"] for t in trace] == ids(answer)
    assert [t["probability"] for t in trace] == [r["score"] for r in answer["results"]]
    assert sum(t["reasoning_tokens"] for t in trace) == answer["reasoning"]["tokens"] > 0
    for t in trace:
        left = len(ITEMS) - t["position"]
        assert 0 <= t["entropy_before"] <= math.log(left) + 1e-5
        assert t["uncertainty"] == pytest.approx(t["entropy_after"] / math.log(left), abs=1e-4)
        if t["reasoning_tokens"] == 0:
            assert t["entropy_before"] == t["entropy_after"]


async def test_a_trace_tells_the_leading_candidates_of_each_step_when_asked(client: Client) -> None:
    items = ["nobody", *ITEMS]  # so that places among the candidates are not those in the request
    plain = (await client.rerank(items, explain=True)).json()
    answer = (await client.rerank(items, explain=True, trace_candidates=3)).json()
    assert answer["results"] == plain["results"]
    for told, position in zip(answer["reasoning"]["trace"], plain["reasoning"]["trace"], strict=True):
        steps = told.pop("steps")
        assert told == position
        assert len(steps) == position["reasoning_tokens"] + 1
        assert (steps[0]["entropy"], steps[-1]["entropy"]) == (
            position["entropy_before"],
            position["entropy_after"],
        )
        told_of = min(3, len(ITEMS) - position["position"])
        assert all(len(step["candidates"]) == len(step["probabilities"]) == told_of for step in steps)
        assert items[steps[-1]["candidates"][0]] == position["id"], "greedy: the most probable"
        assert steps[-1]["probabilities"][0] == position["probability"]


async def test_reasoning_overrides(client: Client) -> None:
    async def reasoning(**overrides: float) -> dict[str, Any]:
        answer = (await client.rerank(ITEMS, reasoning=overrides, explain=True)).json()
        return dict(answer["reasoning"])

    off = await reasoning(max_tokens=0)
    assert (off["tokens"], off["stop"]) == (0, "entropy")
    always = await reasoning(entropy_threshold=0.0, max_tokens=4)
    assert [t["reasoning_tokens"] for t in always["trace"]] == [4] * 10
    assert always["stop"] == "budget"
    never = await reasoning(entropy_threshold=2.0)
    assert (never["tokens"], never["stop"]) == (0, "entropy")


async def test_sampling_repeats_by_seed_and_tells_propensities(client: Client) -> None:
    def sampled(seed: int | None) -> Any:
        return client.rerank(ITEMS, sampling={"temperature": 2.0, "seed": seed})

    first, again, other = [(await sampled(seed)).json() for seed in (7, 7, 8)]
    assert first["results"] == again["results"]
    assert first["results"] != other["results"]
    assert first["sampling"] == {"temperature": 2.0, "seed": 7}
    assert all(0 < r["propensity"] <= 1 for r in first["results"])
    assert any(r["propensity"] != r["score"] for r in first["results"])
    drawn = (await sampled(None)).json()
    assert (await sampled(drawn["sampling"]["seed"])).json()["results"] == drawn["results"]


async def test_sampling_at_temperature_one_has_the_probability_as_propensity(client: Client) -> None:
    answer = (await client.rerank(ITEMS, sampling={"temperature": 1.0, "seed": 1})).json()
    for result in answer["results"]:
        assert result["propensity"] == pytest.approx(result["score"], rel=1e-5)


async def test_answers_do_not_depend_on_the_batch(client: Client) -> None:
    async def answer(seed: int) -> list[dict[str, Any]]:
        sampling = {"seed": seed} if seed else None
        body = await client.rerank(ITEMS[: 5 + seed], top_n=3 + seed, sampling=sampling)
        return list(body.json()["results"])

    alone = [await answer(seed) for seed in range(8)]
    batches = await client.metric("rerank_batch_size_count")
    together = await asyncio.gather(*(answer(seed) for seed in range(8)))
    assert await client.metric("rerank_batch_size_count") - batches < 8, "they were batched"
    for one, other in zip(alone, together, strict=True):
        assert [r["id"] for r in one] == [r["id"] for r in other]
        for a, b in zip(one, other, strict=True):
            assert a["score"] == pytest.approx(b["score"], rel=1e-3)


async def test_an_unknown_item_is_ranked_from_its_features(client: Client) -> None:
    novel = {"id": "new", "features": {"price": 5, "genres": ["drama"], "embedding": [9, -9, 9.5, 0]}}
    items = [*({"id": item} for item in ITEMS[:3]), novel]
    answer = (await client.rerank(items)).json()
    assert answer["missing_ids"] == ["new"]
    assert all(result["score"] is not None for result in answer["results"])


async def test_a_matrix_says_what_json_says(client: Client) -> None:
    rng = np.random.default_rng(0)
    listed = [*ITEMS, "new", "nothing"]
    values = rng.normal(size=(len(listed), 6)).astype("<f4")
    values[3] = values[-1] = np.nan
    values[4, 1] = np.nan
    names = ["embedding[0]", "price", "no such feature", "embedding[1]", "embedding[2]", "embedding[3]"]
    sent = {"names": names, "data": b64encode(values.tobytes()).decode()}
    items = []
    for item, row in zip(listed, values.tolist(), strict=True):
        price = None if math.isnan(row[1]) else row[1]
        embedding = None if math.isnan(row[0]) else [row[0], *row[3:]]
        items.append({"id": item, "features": {"price": price, "embedding": embedding}})
    as_json = (await client.rerank(items, top_n=30)).json()
    as_matrix = (await client.rerank(listed, features_f32=sent, top_n=30)).json()
    assert as_matrix["results"] == as_json["results"]
    assert as_matrix["missing_ids"] == as_json["missing_ids"] == ["new", "nothing"]
    assert as_matrix["results"][-1] == {"id": "nothing", "index": 25, "score": None, "propensity": None}
    assert as_matrix["results"] != (await client.rerank(listed, top_n=30)).json()["results"]
    cheap = [{"id": item, "features": {"price": 1.0}} for item in listed]
    for item in items:
        item["features"]["price"] = 1.0
    own_first = (await client.rerank(cheap, features_f32=sent, top_n=30)).json()
    assert own_first["results"] == (await client.rerank(items, top_n=30)).json()["results"]


async def test_an_unknown_item_without_features_is_put_last(client: Client) -> None:
    items = [{"id": "what"}, {"id": "i1"}, {"id": "where", "features": {"price": None}}, {"id": "i2"}]
    answer = (await client.rerank(items)).json()
    assert sorted(ids(answer)[:2]) == ["i1", "i2"]
    assert answer["results"][2:] == [
        {"id": "what", "index": 0, "score": None, "propensity": None},
        {"id": "where", "index": 2, "score": None, "propensity": None},
    ]
    assert answer["missing_ids"] == ["what", "where"]
    assert sorted(ids((await client.rerank(items, top_n=2)).json())) == ["i1", "i2"]
    assert len(ids((await client.rerank(items, top_n=3)).json())) == 3


async def test_what_the_model_does_not_know_is_said(client: Client) -> None:
    features = {"price": 3.0, "colour": "red", "genres": ["Drama", "crime"]}
    items = [{"id": "i1", "features": features}, {"id": "i2", "features": {"mood": None}}]
    sent = {
        "names": ["price", "embedding[3]", "embedding[4]"],
        "data": b64encode(np.ones((2, 3), "<f4").tobytes()).decode(),
    }
    context = {"device": "radio", "timestamp": 5, "weather": "fine"}
    answer = (await client.rerank(items, features_f32=sent, context=context)).json()
    assert {(one["field"], one["reason"]) for one in answer["ignored"]} == {
        ("items.features.colour", "undeclared"),
        ("items.features.mood", "undeclared"),
        ("features_f32.embedding[4]", "undeclared"),
        ("context.weather", "undeclared"),
        ("items.features.genres", "unknown_value"),
        ("context.device", "unknown_value"),
    }
    known = {"price": 3.0, "genres": ["drama", "crime"]}
    assert (await client.rerank([{"id": "i1", "features": known}])).json()["ignored"] == []


async def test_no_more_is_said_than_is_allowed(serve: Serve) -> None:
    async with serve(max_ignored_fields=3) as client:
        features = {f"f{n}": 1 for n in range(10)}
        answer = (await client.rerank([{"id": "i1", "features": features}])).json()
        assert [one["field"] for one in answer["ignored"]] == [f"items.features.f{n}" for n in range(3)]


@pytest.mark.parametrize("unknown", ["opera", "Drama", "drama, crime", ["drama, crime", "Opera"], 5.0])
async def test_unknown_words_leave_the_catalogues_own(unknown: Any, client: Client) -> None:
    async def scores(genres: Any) -> list[float]:
        items = [{"id": f"i{n}", "features": {"genres": genres}} for n in range(12)]
        answer = (await client.rerank(items, reasoning={"max_tokens": 0})).json()
        return [result["score"] for result in answer["results"]]

    own = await scores(None)
    assert await scores(unknown) == own
    assert await scores([]) != own, "no genre at all is something that is known"
    assert await scores("drama") != own


async def test_nothing_to_rank_is_the_callers_order(client: Client) -> None:
    answer = (await client.rerank(["what", "where"])).json()
    assert ids(answer) == ["what", "where"]
    assert (answer["fallback"], answer["reasoning"]) == ("unknown", None)
    assert answer["recommendation_id"] is not None
    assert (await client.rerank(["what"], strict=True)).json()["fallback"] == "unknown", "no error"
    assert await client.metric('rerank_fallback_total{reason="unknown"}') == 2


async def test_features_context_profile_and_history_matter(client: Client) -> None:
    async def scores(**fields: Any) -> list[float]:
        answer = (await client.rerank(ITEMS, reasoning={"max_tokens": 0}, **fields)).json()
        return [result["score"] for result in answer["results"]]

    plain = await scores()
    assert await scores(context={"device": "ios"}) != plain
    scored = [{"id": item, "score": n % 5} for n, item in enumerate(ITEMS)]
    assert (await client.rerank(scored)).json()["results"][0]["score"] != plain[0]
    await client.put("/v1/users/u/context", json={"profile": {"taste": [1, 2, 3, 4]}})
    profiled = await scores(user_id="u")
    assert profiled != plain
    history = [{"item_id": f"i{n}", "type": ("click", "impression")[n % 2]} for n in range(6)]
    await client.put("/v1/users/u/context", json={"profile": {"taste": [1, 2, 3, 4]}, "history": history})
    assert await scores(user_id="u") != profiled


async def test_a_named_model(client: Client) -> None:
    named = await client.post("/v1/models/eglr/rerank", json={"items": [{"id": "i1"}]})
    assert (named.status_code, named.json()["model"]) == (200, "eglr")
    refused(await client.post("/v1/models/other/rerank", json={"items": [{"id": "i1"}]}), NotFoundError)


async def test_a_request_id_in_the_header(client: Client) -> None:
    body = {"items": [{"id": "i1"}]}
    given = await client.post("/v1/rerank", json=body, headers={"x-request-id": "h-1"})
    assert (given.json()["request_id"], given.headers["x-request-id"]) == ("h-1", "h-1")
    longest = await client.post("/v1/rerank", json=body, headers={"x-request-id": "x" * 128})
    assert longest.json()["request_id"] == "x" * 128
    for unsafe in ("", "with space", "x" * 129):
        answer = await client.post("/v1/rerank", json=body, headers={"x-request-id": unsafe})
        assert answer.json()["request_id"] not in (unsafe, "")
        assert faulty_fields(await client.rerank(["i1"], request_id=unsafe)).keys() == {"request_id"}


async def test_two_thousand_items_with_ten_features_fit_the_default_limits(client: Client) -> None:
    features = {f"feature_{n:02}": math.sqrt(n) for n in range(9)} | {"price": 12.5}
    items = [{"id": f"unknown-{n:04}", "features": features} for n in range(2000)]
    response = await client.post("/v1/rerank", json={"items": items})
    assert response.status_code == 200
    assert response.json()["fallback"] is None
    assert len(response.json()["missing_ids"]) == 2000
    response = await client.post("/v1/rerank", json={"items": [*items, {"id": "one-more"}]})
    assert faulty_fields(response).keys() == {"items"}


async def test_many_list_lengths(serve: Serve) -> None:
    async with serve(max_items=200) as client:
        for length in (1, 2, 11, 200):
            answer = (await client.rerank([f"i{n}" for n in range(length)], top_n=length)).json()
            assert answer["fallback"] is None
            assert len(set(ids(answer))) == length
