"""The simulator's side of judging: chances that belong to what is written, and the figures of the tables."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from evidence.judging import ENOUGH, NAMES, RIPS
from evidence.off_policy_pages import blocks, coverage, differences, draw, effective, summary
from evidence.off_policy_truth import Simulated, Written, as_lists, judge_by
from evidence.simulated_policies import InitialScore, Judged, Network, logging_policies
from model.policy import Policy
from model.training.config import with_changes
from model.training.examples import Example


@pytest.fixture(scope="module")
def world() -> Simulated:
    return Simulated(logs=1, scale=0.06)


@pytest.fixture(scope="module")
def network(world: Simulated) -> Network:
    torch.manual_seed(0)
    policy = Policy(world.config.policy, world.sizes)
    with torch.no_grad():
        policy.encoder.pointer_keys.weight *= 8.0
    return Network(policy, 0.6)


def test_a_networks_chances_are_those_it_writes_with(world: Simulated, network: Network) -> None:
    """The first place of many lists for the same person."""
    row = world.people_known[1][0]
    often = 4000
    slates = network.write([row] * often, 1.5, 0)
    first = np.bincount(slates[:, 0], minlength=20) / often
    begun = np.array([[item, *(set(range(20)) - {item})][:10] for item in range(20)])
    chances = network.chances([row] * 20, begun, 1.5)[:, 0]
    assert chances.sum() == pytest.approx(1.0, abs=1e-4)
    assert np.abs(first - chances).max() < 4 * (0.25 / often) ** 0.5
    assert chances.std() > 0.005
    assert network.write([row], None, 0)[0, 0] == chances.argmax()


def test_noise_makes_another_policy_of_the_same_kind(world: Simulated, network: Network) -> None:
    rows = world.people_known[1][:20]
    slates = network.write(rows, 1.0, 0)
    before = network.chances(rows, slates, 1.0)
    other = network.noisy(0.3).chances(rows, slates, 1.0)
    assert np.abs(other - before).max() > 1e-3
    assert (network.chances(rows, slates, 1.0) == before).all()


def test_chances_of_the_initial_score_add_up_to_one() -> None:
    scores = np.array([[0.3, -1.0, 0.8, 0.1]], np.float32).T
    row = Example({"candidate_numeric": scores}, np.zeros(4, np.float32), np.arange(4))
    every = np.array(list(permutations(range(4), 3)))
    chances = InitialScore(0).chances([row] * len(every), every, 0.7)
    assert chances.prod(1).sum() == pytest.approx(1.0)
    assert InitialScore(0).write([row], None, 0).tolist() == [[2, 0, 3, 1]]
    first = InitialScore(0).write([row] * 5000, 0.7, 0)[:, 0]
    expected = np.exp(scores[:, 0] / 0.7) / np.exp(scores[:, 0] / 0.7).sum()
    assert np.bincount(first) / 5000 == pytest.approx(expected, abs=0.03)


def test_true_values_are_those_of_the_world(world: Simulated, network: Network) -> None:
    slates, rows = world.people_known
    policy = Judged("one", network, 1.0)
    order = policy.write(rows[:1], 1)[0]
    assert world.clicks(slates[0], order).sum() == pytest.approx(
        world.world.value_of(slates[0], order.tolist())
    )
    own = [world.clicks(*pair).sum() for pair in zip(slates, policy.write(rows, 1), strict=True)]
    value, error = world.true_values(policy)[10]
    assert value == pytest.approx(np.mean(own), abs=4 * np.std(own) / len(own) ** 0.5)
    assert 0 < error < 0.5


def test_a_policy_judged_by_its_own_lists_is_worth_what_they_brought(
    world: Simulated, network: Network
) -> None:
    config = with_changes(world.config, {"evaluator": {"epochs": 1}})
    logger = logging_policies({"imitation": network})[2]
    written = Written(world, [logger, Judged("greedy", network, share=0.0)], 0)
    found = judge_by(world, written, logger, config)
    assert [(case["length"], case["policy"]) for case in found] == [
        (length, policy) for length in (4, 10) for policy in (logger.name, "greedy")
    ]
    for case in found[::2]:
        assert case["estimates"][RIPS]["value"] == pytest.approx(case["logged"], abs=1e-3)
        assert case["estimates"][RIPS]["effective"] == pytest.approx(case["lists"], rel=1e-3)
    for case in found[1::2]:
        assert 0 < case["estimates"][RIPS]["effective"] < case["lists"]


def test_labels_are_where_items_were_shown(world: Simulated) -> None:
    slates, rows = world.people_known
    shown = np.array([[3, 1, 0, 2]])
    lists = as_lists(slates[:1], rows[:1], shown, np.ones((1, 4)), np.array([[1.0, 0.0, 1.0, 0.0]]))
    assert np.flatnonzero(lists.examples[0].labels).tolist() == [0, 3]
    assert lists.rewards.tolist() == [[1.0, 0.0, 1.0, 0.0]]


def case(policy: str, value: float, spread: float, worth: float, log: int = 0) -> dict[str, object]:
    one = {"value": value, "low": value - spread, "high": value + spread}
    minus = {key: number - 2.0 for key, number in one.items()}  # what its lists brought
    estimates = {key: {**one, "minus_logged": minus, "effective": worth} for key in NAMES}
    return {
        "log": log,
        "logging": "b",
        "length": 4,
        "policy": policy,
        "estimates": estimates,
        "minus": {"b": minus} if worth > ENOUGH else {},
    }


def test_a_row_of_the_table_by_hand(tmp_path: Path) -> None:
    truth = {name: {"4": [true, 0.0]} for name, true in (("a", 1.0), ("b", 2.0), ("c", 3.0))}
    cases = [
        *(case("a", 1.1, 0.2, 1000), case("b", 1.9, 0.05, 1000), case("c", 3.5, 1.0, 10)),
        *(case("a", 2.0, 0.1, 10, 1), case("b", 1.5, 1.0, 10, 1), case("c", 3.0, 1.0, 10, 1)),
    ]
    row = summary(cases, truth, RIPS)
    assert row[1] == "0.750"  # 1 of the first log, .5 of the second
    assert row[2:5] == ["0.503", "+0.167", "67%"]
    assert row[5:] == ["2", "0.100", "+0.000", "50%"]
    assert effective(cases[0], RIPS) == 1000
    made = blocks({"rows": cases, "truth": truth})
    assert set(made) == {"off-policy-4", "off-policy-differences-4", "off-policy-logging"}
    assert "| b | 4 | 2 of 6 | 0.750 |" in made["off-policy-logging"]
    cases += [case("c", 1.2, 0.7, 1000, 1)]  # established, and wrong
    rows = differences(cases, truth)
    expected = ["2", "1.275", "0.450", "50%", "50.0%"]
    assert [row[1:] for row in rows] == [expected] * len(NAMES)
    rows = coverage(cases, truth)
    assert rows[0] == ["value", "3", "1.042", "0.317", "33%", "0.0%"]
    assert [row[1:] for row in rows[1:]] == [expected, expected, ["0", "", "", "", ""]]
    draw(
        {
            "rows": [*cases, {**cases[0], "length": 10}],
            "truth": {"a": {**truth["a"], "10": [1.0, 0.0]}, **{name: truth[name] for name in "bc"}},
        },
        tmp_path / "figure.png",
    )
    assert (tmp_path / "figure.png").stat().st_size > 10_000
