"""Slates under constraints: the same on every path and in any batch, and always as they were asked to be."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from constraints_by_force import holds
from tiny_bundle import TinyBundles

from bundle.arrays import Arrays
from constraints.planning import plan
from constraints.rules import Cap, Constraints
from engine.generation import Controls, Slate
from engine.graphs import SlateRunner, StepRunner
from engine.loaded_model import LoadedModel
from engine.runner import Runner
from engine.settings import SessionSettings
from export.parity import TorchRunner, compare, random_requests
from export.random_constraints import constrained
from model.training.checkpoint import load_policy

Requests = list[tuple[Arrays, Controls]]


def draw(model: LoadedModel, count: int, seed: int = 0, every: int = 1) -> Requests:
    """Random requests; one of `every` so many has constraints."""
    rng = np.random.default_rng(seed)
    drawn = random_requests(model.features, model.manifest, count, seed=seed)
    return [
        (arrays, controls if n % every else constrained(rng, controls, len(arrays["candidate_numeric"])))
        for n, (arrays, controls) in enumerate(drawn)
    ]


def items(slate: Slate) -> list[int]:
    return [position.index for position in slate.positions]


def unconstrained(requests: Requests) -> Iterator[tuple[Arrays, Controls]]:
    return ((arrays, replace(controls, constraints=None)) for arrays, controls in requests)


OTHERS = [("gru", 3), ("transformer", 1)]


@pytest.mark.parametrize(
    ("decoder", "every"),
    [("gru", 1), ("transformer", 3), *(pytest.param(*one, marks=pytest.mark.slow) for one in OTHERS)],
)
def test_every_path_writes_the_same_lists(decoder: str, every: int, tiny_bundles: TinyBundles) -> None:
    """Sampled and greedy, with reasoning, beside requests that ask for nothing."""
    directory = tiny_bundles(decoder=decoder)
    model = LoadedModel.open(directory)
    requests = draw(model, 120, every=every)
    reference = TorchRunner(load_policy(directory, model.features))
    settings = SessionSettings()
    runners: list[Runner] = [
        model.runner,
        StepRunner(directory, model.manifest, settings),
        SlateRunner(directory, model.manifest, settings),
    ]
    for runner in runners:
        assert compare(reference, runner, requests).identical == 120
    for arrays, controls in requests:
        (slate,) = model.generate([arrays], [controls])
        assert len(slate.positions) == controls.slate_length
        if controls.constraints:
            assert holds(controls.constraints.constraints, items(slate))
    without = list(unconstrained(requests))
    assert compare(reference, model.runner, without).identical == 120
    assert (
        sum(
            items(model.generate([arrays], [mine])[0]) != items(model.generate([arrays], [theirs])[0])
            for (arrays, mine), (_, theirs) in zip(requests, without, strict=True)
            if mine.constraints
        )
        > 40 / every
    )


def test_looking_ahead_stays_within_the_constraints(tiny_bundles: TinyBundles) -> None:
    """What is tried may stand, and what is completed after it too; the same by both writers."""
    directory = tiny_bundles(evaluators=3)
    model = LoadedModel.open(directory)
    stepwise = LoadedModel.open(directory, SessionSettings(decoding="step"))
    requests = [
        (arrays, replace(controls, seed=None, lookahead=1 + n % 3, entropy_threshold=0.0))
        for n, (arrays, controls) in enumerate(draw(model, 16, seed=2, every=2))
    ]
    arrays, controls = [row[0] for row in requests], [row[1] for row in requests]
    found, theirs = model.generate(arrays, controls), stepwise.generate(arrays, controls)
    improved = 0
    for given, control, slate, other in zip(arrays, controls, found, theirs, strict=True):
        assert items(slate) == items(other)
        assert slate.judged == other.judged
        assert len(slate.positions) == control.slate_length
        if control.constraints:
            assert holds(control.constraints.constraints, items(slate))
            improved += items(slate) != items(model.generate([given], [replace(control, lookahead=0)])[0])
    assert improved > 2


def test_probabilities_are_those_among_what_may_stand(bundle: Path) -> None:
    """One of a group a slate: after it, its members are no candidates, and their share is the others'."""
    model = LoadedModel.open(bundle)
    arrays, controls = random_requests(model.features, model.manifest, 1, sizes=(24,))[0]
    members = np.arange(24) % 3 == 0
    found = plan(Constraints(pins={1: 5}, caps=(Cap("one", members, 1),)), 24, 12)
    greedy = replace(controls, slate_length=12, seed=None, constraints=found, selection_temperature=1.0)
    (slate,) = model.generate([arrays], [greedy])
    pinned = slate.positions[1]
    assert (pinned.index, pinned.probability, pinned.entropy_before) == (5, pytest.approx(1.0), 0.0)
    alone = replace(model, runner=TorchRunner(load_policy(bundle, model.features)))
    (expected,) = alone.generate([arrays], [greedy])
    for mine, theirs in zip(slate.positions, expected.positions, strict=True):
        for name in ("probability", "entropy_before", "entropy_after", "uncertainty"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), abs=2e-5)
    drawn = [
        model.generate([arrays], [replace(greedy, slate_length=12, seed=seed)])[0] for seed in range(200)
    ]
    first = np.array([slate.positions[0].index for slate in drawn])
    propensity = {slate.positions[0].index: slate.positions[0].propensity for slate in drawn}
    assert sum(propensity.values()) <= 1.0 + 1e-5
    for item, chance in propensity.items():
        assert abs((first == item).mean() - chance) < 0.15


@pytest.mark.parametrize("decoding", ["native", "step"])
def test_a_deadline_leaves_what_is_written(decoding: str, bundle: Path) -> None:
    model = LoadedModel.open(bundle, SessionSettings(decoding=decoding))  # type: ignore[arg-type]
    arrays, controls = draw(model, 1)[0]
    (slate,) = model.generate([arrays], [replace(controls, deadline=monotonic())])
    assert slate.positions == ()
