"""Exploration as the service does it: which lists are sampled, what is told of them, and what is refused."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rerank_client import Client, Serve
from tiny_bundle import TinyBundles

from bundle.manifest import BundleError
from decisions.files import listed
from decisions.lines import Decision, decode
from engine.loaded_model import LoadedModel
from service.serving.exploration import check
from service.settings import Settings

ITEMS = [f"i{n}" for n in range(4)]
SHARE = 0.4
EXPLORING = {"exploration_share": SHARE, "exploration_temperature": 4.0}


async def answers(client: Client, count: int, **fields: Any) -> list[dict[str, Any]]:
    return [(await client.rerank(ITEMS, **fields)).json() for _ in range(count)]


def ids(answer: dict[str, Any]) -> tuple[str, ...]:
    return tuple(result["id"] for result in answer["results"])


async def test_both_arms_answer_and_log_propensities_of_the_mixture(serve: Serve, tmp_path: Path) -> None:
    async with serve(decision_log=str(tmp_path), **EXPLORING) as client:
        given = await answers(client, 300)
    told: dict[tuple[str, ...], float] = {}
    for answer in given:
        probability = prod(result["propensity"] for result in answer["results"])
        assert told.setdefault(ids(answer), probability) == pytest.approx(probability, abs=1e-6)
    assert sum(told.values()) == pytest.approx(1.0, abs=0.05), "nearly all 24 lists were seen"
    greedy = [answer for answer in given if answer["sampling"] is None]
    assert len({*map(ids, greedy)}) == 1
    assert 300 * (1 - SHARE) - 60 < len(greedy) < 300 * (1 - SHARE) + 60
    for answer, line in zip(given, map(decode, listed(tmp_path)[0].read_bytes().splitlines()), strict=True):
        assert isinstance(line, Decision)
        assert line.exploration is not None
        assert (line.exploration.share, line.exploration.temperature) == (SHARE, 4.0)
        assert line.seed == (answer["sampling"] or {"seed": None})["seed"]
        assert [*line.propensity] == [result["propensity"] for result in answer["results"]]


@pytest.mark.parametrize(("stickiness", "field"), [("user", "user_id"), ("request", "request_id")])
async def test_who_sticks_stays_in_an_arm(serve: Serve, stickiness: str, field: str) -> None:
    async with serve(exploration_stickiness=stickiness, **EXPLORING) as client:
        arms = {}
        for name in (f"n{number}" for number in range(40)):
            given = await answers(client, 3, **{field: name})
            assert len({answer["sampling"] is None for answer in given}) == 1
            if stickiness == "request":
                assert len({*map(ids, given)}) == 1, "a request that is sent again gets the same list"
            arms[name] = given[0]["sampling"] is None
    assert 0 < sum(arms.values()) < 40


async def test_a_request_that_says_how_is_left_alone(serve: Serve) -> None:
    async with serve(**EXPLORING) as client, serve() as other:
        asked = {"sampling": {"temperature": 2.0, "seed": 7}}
        (mine,), (theirs,) = await answers(client, 1, **asked), await answers(other, 1, **asked)
        assert mine["results"] == theirs["results"]
        assert mine["sampling"] == theirs["sampling"]


async def test_models_whose_propensities_cannot_be_told_are_refused(
    serve: Serve, tiny_bundles: TinyBundles, bundle: Path
) -> None:
    model = LoadedModel.open(bundle)
    ahead = replace(model, manifest=model.manifest.model_copy(update={"lookahead": 2}))
    cold = replace(model, manifest=model.manifest.model_copy(update={"selection_temperature": 0.05}))
    for one, temperature, said in ((ahead, 1.0, "looks ahead"), (cold, None, "too low to explore at")):
        with pytest.raises(BundleError, match=said):
            check(one, temperature)
    check(cold, 1.0)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"exploration_temperature": 1.0}, "nothing is sampled while exploration_share is 0"),
    ({"exploration_stickiness": "user"}, "nothing is sampled while exploration_share is 0"),
    ({"exploration_share": 0.0001}, "expected 0, or at least 0.001"),
    ({"exploration_share": 0.1, "exploration_temperature": 0.05}, "expected at least 0.1"),
    ({"exploration_share": 1.5}, "less than or equal to 1"),
    ({"decision_log_users": "hashed"}, "hashed ids need decision_log_key"),
    ({"decision_log_users": "hashed", "decision_log_key": "short"}, "expected 16 bytes or more, got 5"),
    ({"decision_log": "redis+sentinel://a/b"}, "expected a directory, or an address with redis://"),
    ({"decision_log": ""}, "expected a directory, or an address; to log nothing leave it unset"),
    ({"decision_log_max_bytes": 1000}, "expected at least 268435456"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings(bundle="b", **given)
