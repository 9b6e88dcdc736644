"""The simulator's people, and their log before the loop."""

from pathlib import Path

import numpy as np
import pytest

from loop.people import People, write_log
from loop.worth import share_of_gain, worth
from model.data.event_log import read_event_log
from model.data.simulator import SimulatorConfig, World, load
from model.data.slate import SPLITS

SMALL = SimulatorConfig(items=60, lists=60)


@pytest.fixture(scope="module")
def people() -> People:
    return People(SMALL, 30)


def test_those_of_the_log_come_first_and_rounds_after_them(people: People) -> None:
    alone = World(SMALL).log()
    assert [slate.candidates for slate in people.first] == [slate.candidates for slate in alone]
    first, second = people.of_round(1, 10), people.of_round(2, 10)
    assert [slate.user_id for slate in (*first, *second)] == [f"u{n}" for n in range(60, 80)]
    assert {slate.user_id for slate in people.held_out} < {slate.user_id for slate in people.first}


def test_clicks_have_the_chances_of_the_world_and_the_same_luck(people: People) -> None:
    slate = people.first[0]
    order = [3, 1, 2, 0]
    chances = people.chances(slate, order)
    assert chances.sum() == pytest.approx(people.world.value_of(slate, order))
    assert (people.clicks(slate, chances) == people.clicks(slate, chances)).all()
    assert people.clicks(slate, np.ones(4)).all()
    assert not people.clicks(slate, np.zeros(4)).any()
    half = [people.clicks(one, np.full(10, 0.5)) for one in people.first]
    assert np.mean(half) == pytest.approx(0.5, abs=0.1)


def test_the_log_is_the_simulators_own(people: People, tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl.gz", people.items, people.first)
    read, own = read_event_log(tmp_path / "log.jsonl.gz", "log"), load(SMALL)
    assert read.items == own.items
    assert read.true_value is None
    for split in SPLITS:
        for one, other in zip(read.slates[split], own.slates[split], strict=True):
            assert (one.candidates, one.shown.tolist()) == (other.candidates, other.shown.tolist())
            assert (one.labels == other.labels).all()
            assert one.scores == pytest.approx(other.scores)
            assert (one.user.profile, one.user.history) == (other.user.profile, ())


def test_the_oracle_is_above_the_initial_order_and_that_above_chance(people: People) -> None:
    found = {name: values.mean() for name, values in people.references(10).items()}
    assert found["random order"] < found["initial order"] < found["oracle"]


def test_worth_by_hand() -> None:
    references = {"random order": np.array([1.0, 1.0]), "oracle": np.array([3.0, 5.0])}
    assert share_of_gain(1.0, references) == 0.0
    assert share_of_gain(2.5, references) == pytest.approx(0.5)
    found = worth(np.array([2.0, 3.0]), np.array([1.5, 2.0]), references)
    assert found["value"] == [2.5, 2.0, 3.0]
    assert found["gain"] == [0.75, 0.5, 1.0]
    assert (found["share"], found["lists_judged"]) == (0.5, 2)
