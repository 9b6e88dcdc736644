"""Rules for the list as callers meet them, with a real bundle."""

import asyncio
from random import Random
from typing import Any

import pytest
from error_answers import faulty_fields
from eventually import eventually
from faulty_runners import Failing, held, put_runner
from rerank_client import Client, Serve
from steered_clock import turns
from tiny_bundle import tiny_items

CATALOGUE = tiny_items(Random(0), 200)
ITEMS = [f"i{n}" for n in range(24)]
DRAMAS = [item for item in ITEMS if "drama" in CATALOGUE[item]["genres"]]
GONE_MS = 1e-6
"""A deadline that has passed when the body is read."""


async def answer(client: Client, items: list[Any], constraints: dict[str, Any], **fields: Any) -> Any:
    response = await client.rerank(items, constraints=constraints, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def ids(answer: dict[str, Any]) -> list[str]:
    return [result["id"] for result in answer["results"]]


def at_most(count: int, **group: Any) -> dict[str, Any]:
    return {"at_most": [{"feature": "genres", **group, "count": count}]}


async def test_the_sponsored_item_first_and_nothing_that_was_bought(client: Client) -> None:
    rules = {"pinned": [{"id": "i7", "position": 0}], "excluded": ["i3", "elsewhere"]}
    told = await answer(client, ITEMS, rules, return_all=True)
    assert ids(told)[0] == "i7"
    assert (told["results"][0]["score"], told["results"][0]["propensity"]) == (1.0, 1.0)
    assert sorted(ids(told)) == sorted(set(ITEMS) - {"i3"})
    assert "shortened_by" not in told
    assert told["ignored"] == []
    without = await answer(client, ITEMS, {}, return_all=True)
    assert ids(without)[:10] == ids((await client.rerank(ITEMS)).json()), "no rules change nothing"


async def test_metrics_are_of_what_the_model_chose(client: Client) -> None:
    await answer(client, ITEMS, {"pinned": [{"id": "i7", "position": 1}]})
    assert await client.metric("rerank_score_count") == 9
    assert await client.metric('rerank_gate_entropy_nats_count{position="1"}') == 0
    assert await client.metric('rerank_constrained_requests_total{result="whole"}') == 1


async def test_excluded_items_are_no_candidates(client: Client) -> None:
    told = await answer(client, ITEMS, {"excluded": ITEMS[5:]})
    alone = (await client.rerank(ITEMS[:5])).json()
    assert [{**result, "index": 0} for result in told["results"]] == [
        {**result, "index": 0} for result in alone["results"]
    ]


async def test_caps_shorten_and_say_so(client: Client) -> None:
    told = await answer(client, DRAMAS, at_most(2, value="drama"), return_all=True)
    assert (len(told["results"]), told["shortened_by"]) == (2, ["constraints.at_most.0"])
    assert all(result["propensity"] == 1.0 for result in told["results"])
    assert await client.metric('rerank_constrained_requests_total{result="shortened"}') == 1


async def test_a_list_that_has_no_room_for_any_item_is_empty(client: Client) -> None:
    told = await answer(client, ITEMS, at_most(0), return_all=True)  # of every genre
    assert (told["results"], told["fallback"]) == ([], None)
    assert told["shortened_by"] == ["constraints.at_most.0"]
    told = await answer(client, ITEMS, {"excluded": ITEMS}, return_all=True)
    assert (told["results"], told["fallback"], told.get("shortened_by")) == ([], None, None)


async def test_the_trace_is_that_of_the_list(client: Client) -> None:
    rules = {"pinned": [{"id": "i7", "position": 2}]} | at_most(1, value="drama", window=2)
    told = await answer(client, ITEMS, rules, explain=True)
    trace = told["reasoning"]["trace"]
    assert [position["id"] for position in trace] == ids(told)
    assert (trace[2]["id"], trace[2]["probability"], trace[2]["entropy_before"]) == ("i7", 1.0, 0.0)
    assert trace[2]["reasoning_tokens"] == 0


async def test_the_same_seed_gives_the_same_list(client: Client) -> None:
    rules = at_most(2) | {"at_least": [{"feature": "genres", "value": "crime", "count": 2, "top": 4}]}
    sampling = {"temperature": 2.0, "seed": 5}
    first, second = [await answer(client, ITEMS, rules, sampling=sampling) for _ in range(2)]
    assert first["results"] == second["results"]
    assert all(0 < result["propensity"] <= 1 for result in first["results"])


RULES = {
    "pinned": [{"id": "i20", "position": 1}],
    "excluded": ["i0"],
    "at_most": [{"feature": "genres", "value": "drama", "count": 1, "window": 3}],
}


def assert_fallback(told: dict[str, Any], reason: str | None, **fields: Any) -> None:
    """`RULES` over `ITEMS`: the caller's order, as far as they let it."""
    expected: list[str] = []
    while len(expected) < 10:
        recent = [item for item in expected[-2:] if item in DRAMAS]
        expected.append(
            "i20"
            if len(expected) == 1
            else next(
                item
                for item in ITEMS[1:]
                if item not in (*expected, "i20") and not (item in DRAMAS and (recent or len(expected) < 1))
            )
        )
    assert ids(told) == expected
    assert told["fallback"] == reason


async def test_every_fallback_obeys(serve: Serve, client: Client) -> None:
    assert "i20" in DRAMAS, "so that no drama may stand before it"
    told = await answer(client, ITEMS, RULES, deadline_ms=GONE_MS)
    assert_fallback(told, "deadline")
    put_runner(client, Failing())
    assert_fallback(await answer(client, ITEMS, RULES), "model")
    async with serve(max_queue=1) as busy:
        gate = held(busy)
        waiting = [asyncio.create_task(busy.rerank(ITEMS))]
        await eventually(gate.reached.is_set)
        waiting.append(asyncio.create_task(busy.rerank(ITEMS)))
        await turns()
        assert_fallback(await answer(busy, ITEMS, RULES), "overload")
        gate.set()
        await asyncio.gather(*waiting)


async def test_a_list_of_unknown_items_obeys(client: Client) -> None:
    items = ["new1", "new2", "new3", "new4"]
    rules = {"pinned": [{"id": "new4", "position": 0}], "excluded": ["new2"]}
    told = await answer(client, items, rules)
    assert (ids(told), told["fallback"]) == (["new4", "new1", "new3"], "unknown")


async def test_unknown_items_follow_where_the_rules_let_them(client: Client) -> None:
    items = ["new1", "i1", "new2", "i2", "new3"]
    told = await answer(client, items, {"excluded": ["new1"]} | at_most(2))
    assert ids(told)[2:] == ["new2", "new3"]
    assert [result["propensity"] is None for result in told["results"]] == [False, False, True, True]
    new = {"groups": {"new": ["new1", "new2", "new3"]}}
    told = await answer(client, items, new | at_most(1, feature=None, group="new"))
    assert ids(told)[2:] == ["new1"]
    assert told["shortened_by"] == ["constraints.at_most.0"]
    assert told["missing_ids"] == ["new1", "new2", "new3"]


async def test_unknown_items_that_are_needed_are_candidates(client: Client) -> None:
    items = ["new1", "i1", "new2", "i2"]
    told = await answer(client, items, {"pinned": [{"id": "new2", "position": 0}]})
    assert ids(told) == ["new2", *ids((await client.rerank(["i1", "i2"])).json()), "new1"]
    assert told["results"][0]["propensity"] == 1.0
    floor = {"at_least": [{"group": "new", "count": 1, "top": 1}], "groups": {"new": ["new1", "new2"]}}
    told = await answer(client, items, floor)
    assert ids(told)[0] in ("new1", "new2")
    assert None not in [result["propensity"] for result in told["results"]]


async def test_groups_of_features_that_are_sent(client: Client) -> None:
    items = [{"id": item, "features": {"brand": "ab"[n % 2]}} for n, item in enumerate(ITEMS)]
    told = await answer(client, items, at_most(2, feature="brand"))
    assert sorted(int(item[1:]) % 2 for item in ids(told)) == [0, 0, 1, 1]
    assert told["ignored"] == [], "it was of use"


async def test_a_value_that_nobody_knows_is_told(client: Client) -> None:
    told = await answer(client, ITEMS, at_most(0, value="Drama"))
    assert ids(told) == ids((await client.rerank(ITEMS)).json())
    assert told["ignored"] == [{"field": "constraints.at_most.0.value", "reason": "unknown_value"}]


SOME, NONE_OF_ALL = {"group": "all", "count": 1}, {"group": "all", "count": 0}
PINNED = {"pinned": [{"id": "i1", "position": 0}]}
CONFLICTS = [
    ({"at_least": [{"group": "all", "count": 2}], "at_most": [SOME]}, {"at_least", "at_most"}),
    (PINNED | {"at_most": [NONE_OF_ALL]}, {"pinned", "at_most"}),
    (PINNED | {"at_least": [{"group": "one", "count": 2}]}, {"at_least"}),
    ({"at_least": [SOME], "excluded": ITEMS[1:]}, {"at_least", "excluded"}),
]


@pytest.mark.parametrize(("rules", "names"), CONFLICTS)
async def test_what_conflicts_is_named(client: Client, rules: dict[str, Any], names: set[str]) -> None:
    groups = {"groups": {"all": ITEMS[1:], "one": ["i1"]}}
    refused = await client.rerank(ITEMS, constraints=rules | groups, deadline_ms=GONE_MS, top_n=5)
    faults = faulty_fields(refused)
    assert {field.split(".")[1] for field in faults} == names
    for field, message in faults.items():
        assert all(
            other in message for other in faults if other != field and "excluded" not in (field + other)
        )
    assert await client.metric('rerank_constrained_requests_total{result="refused"}') == 1


async def test_the_value_that_conflicts_is_said(client: Client) -> None:
    rules = at_most(1) | {"at_least": [{"feature": "genres", "value": "drama", "count": 2}]}
    faults = faulty_fields(await client.rerank(ITEMS, constraints=rules))
    assert "'drama'" in faults["constraints.at_most.0"]
    assert f"{len(DRAMAS)} items" in faults["constraints.at_least.0"]


async def test_rules_that_take_too_long_to_judge_are_refused(serve: Serve) -> None:
    rng = Random(3)
    groups = {f"g{n}": rng.sample(ITEMS, 8) for n in range(12)}
    rules = {
        "groups": groups,
        "at_most": [{"group": name, "count": 1, "window": 4} for name in groups],
        "at_least": [{"group": name, "count": 3} for name in list(groups)[:8]],
    }
    async with serve(max_constraint_states=1) as client:
        faults = faulty_fields(await client.rerank(ITEMS, constraints=rules))
        assert set(faults) == {"constraints"}
        assert "1 states" in faults["constraints"]
        assert await client.metric('rerank_constrained_requests_total{result="undecided"}') == 1


async def test_what_is_judged_aside_is_answered_alike(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = at_most(2, window=3) | {"excluded": ITEMS[:2], "pinned": [{"id": "i7", "position": 1}]}
    conflict = at_most(1) | {"at_least": [{"feature": "genres", "value": "drama", "count": 2}]}
    at_once = (
        await answer(client, ITEMS, rules),
        faulty_fields(await client.rerank(ITEMS, constraints=conflict)),
    )
    monkeypatch.setattr("service.serving.preparation.AT_ONCE", 0)
    aside = (
        await answer(client, ITEMS, rules),
        faulty_fields(await client.rerank(ITEMS, constraints=conflict)),
    )
    assert (ids(aside[0]), aside[1]) == (ids(at_once[0]), at_once[1])
    assert await client.metric('rerank_stage_duration_seconds_count{stage="rules"}') == 2
    late = await client.rerank(ITEMS, constraints=rules, deadline_ms=GONE_MS)
    assert late.status_code == 504, "what would obey is not known"
    assert await client.metric('rerank_constrained_requests_total{result="late"}') == 1
