"""Slates under constraints: the same on every path and in any batch, and always as they were asked to be."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from constraints_by_force import holds
from tiny_bundle import TinyBundles

from bundle.arrays import Arrays
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


@pytest.mark.parametrize(
    ("decoder", "every"), [("gru", 1), ("gru", 3), ("transformer", 1), ("transformer", 3)]
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
