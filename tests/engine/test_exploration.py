"""Propensities of the mixture of sampled and greedy lists, against counting: every list there is, drawn again
and again."""

from collections import Counter
from dataclasses import replace
from itertools import permutations
from math import prod
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import Arrays
from constraints.planning import plan
from constraints.rules import Constraints
from engine.generation import Controls, Slate
from engine.graphs import SlateRunner, StepRunner
from engine.loaded_model import LoadedModel
from engine.runner import Runner
from engine.settings import SessionSettings
from export.parity import TorchRunner, random_requests
from model.training.checkpoint import load_policy

N, K, SHARE = 4, 3, 0.4
LISTS = 4000


@pytest.fixture(scope="module")
def model(bundle: Path) -> LoadedModel:
    return LoadedModel.open(bundle)


@pytest.fixture(scope="module")
def request_arrays(model: LoadedModel) -> Arrays:
    ((arrays, _),) = random_requests(model.features, model.manifest, 1, sizes=(N,), seed=5)
    return arrays


def mixture(model: LoadedModel) -> Controls:
    """That reasons at some positions, at a temperature that makes every list likely enough to be drawn."""
    controls = Controls.default(model.manifest, K)
    return replace(controls, selection_temperature=4.0, exploration_share=SHARE)


def written(model: LoadedModel, arrays: Arrays, controls: Controls, seeds: list[int | None]) -> list[Slate]:
    slates: list[Slate] = []
    for start in range(0, len(seeds), 250):
        batch = [replace(controls, seed=seed) for seed in seeds[start : start + 250]]
        slates += model.generate([arrays] * len(batch), batch)
    return slates


def items(slate: Slate) -> tuple[int, ...]:
    return tuple(position.index for position in slate.positions)


def probability(slate: Slate) -> float:
    return prod(position.propensity for position in slate.positions)


def test_probabilities_add_up_to_one_and_are_how_often_lists_are_drawn(
    model: LoadedModel, request_arrays: Arrays
) -> None:
    drawn = np.random.default_rng(0)
    seeds = [seed if drawn.random() < SHARE else None for seed in range(LISTS)]
    slates = written(model, request_arrays, mixture(model), seeds)
    assert any(slate.reasoning_tokens for slate in slates), "with reasoning"
    told: dict[tuple[int, ...], float] = {}
    for slate in slates:
        known = told.setdefault(items(slate), probability(slate))
        assert probability(slate) == pytest.approx(known, abs=1e-6), "whichever arm it came from"
    assert set(told) == set(permutations(range(N), K))
    assert sum(told.values()) == pytest.approx(1.0, abs=1e-5)
    counts = Counter(map(items, slates))
    chi_square = sum((counts[one] - LISTS * p) ** 2 / (LISTS * p) for one, p in told.items())
    assert chi_square < 49.7, "which 23 degrees of freedom exceed once in a thousand times"
    greedy = items(slates[seeds.index(None)])
    assert told[greedy] > 1 - SHARE
    assert all(position.propensity > 1 - SHARE for position in slates[seeds.index(None)].positions)


def test_every_writer_tells_the_same(model: LoadedModel, request_arrays: Arrays, bundle: Path) -> None:
    step = StepRunner(bundle, model.manifest, SessionSettings())
    torch = TorchRunner(load_policy(bundle, model.features))
    others: list[Runner] = [step, SlateRunner(bundle, model.manifest, SessionSettings()), torch]
    seeds = [None, *range(120)]
    expected = written(model, request_arrays, mixture(model), seeds)
    assert len(set(map(items, expected))) > 10
    for runner in others:
        found = written(replace(model, runner=runner), request_arrays, mixture(model), seeds)
        for one, other in zip(expected, found, strict=True):
            assert items(one) == items(other)
            for place, reference in zip(one.positions, other.positions, strict=True):
                assert place.propensity == pytest.approx(reference.propensity, abs=1e-5)


@pytest.mark.parametrize("decoding", ["native", "graph"])
def test_with_rules_it_is_the_mixture_of_lists_that_keep_them(
    model: LoadedModel, request_arrays: Arrays, bundle: Path, decoding: str
) -> None:
    runner = model.runner if decoding == "native" else SlateRunner(bundle, model.manifest, SessionSettings())
    ruled = replace(mixture(model), constraints=plan(Constraints(pins={1: 2}), N, K))
    slates = written(replace(model, runner=runner), request_arrays, ruled, [None, *range(400)])
    told = {items(slate): probability(slate) for slate in slates}
    assert set(told) == {one for one in permutations(range(N), K) if one[1] == 2}
    assert sum(told.values()) == pytest.approx(1.0, abs=1e-5)


def test_a_share_of_one_is_sampling(model: LoadedModel, request_arrays: Arrays) -> None:
    controls = replace(mixture(model), seed=3)
    (one,) = model.generate([request_arrays], [replace(controls, exploration_share=1.0)])
    (other,) = model.generate([request_arrays], [replace(controls, exploration_share=None)])
    assert one == other


def test_ties_are_broken_alike_by_both_arms(model: LoadedModel, request_arrays: Arrays) -> None:
    """Items that are the same to the model: the greedy list takes one of them, and no other counts as it."""
    twins = {
        name: np.repeat(array[:1], N, axis=0) if name.startswith("candidate") else array
        for name, array in request_arrays.items()
    }
    slates = written(model, twins, mixture(model), [None, *range(800)])
    told = {items(slate): probability(slate) for slate in slates}
    assert len(told) == 24
    assert sum(told.values()) == pytest.approx(1.0, abs=1e-5)
    assert sum(p > 1 - SHARE for p in told.values()) == 1
