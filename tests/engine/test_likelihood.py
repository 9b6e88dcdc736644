"""Chances of slates that are given, beside those that were recorded when they were drawn."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.generation import Controls
from engine.likelihood import propensities
from engine.loaded_model import LoadedModel
from engine.settings import Decoding, SessionSettings
from export.parity import random_requests

if TYPE_CHECKING:
    from tiny_bundle import TinyBundles


@pytest.mark.parametrize("decoding", ["native", "graph", "step"])
def test_a_sampled_slate_has_the_propensities_it_was_drawn_with(bundle: Path, decoding: Decoding) -> None:
    model = LoadedModel.open(bundle, SessionSettings(decoding=decoding))
    sizes = (24, 9, 50, 24, 13)
    inputs = [arrays for arrays, _ in random_requests(model.features, model.manifest, 5, sizes=sizes)]
    controls = [
        replace(Controls.default(model.manifest, length), selection_temperature=temperature, seed=length)
        for length, temperature in zip((5, 9, 10, 1, 4), (0.7, 1.0, 3.0, 1.0, 0.3), strict=True)
    ]
    drawn = model.generate(inputs, controls)
    assert any(position.reasoning_tokens for slate in drawn for position in slate.positions)
    slates = [np.array([position.index for position in slate.positions]) for slate in drawn]
    found = propensities(model, inputs, controls, slates)
    for slate, chances in zip(drawn, found, strict=True):
        assert chances == pytest.approx([position.propensity for position in slate.positions], rel=1e-4)


def test_chances_of_every_slate_add_up_to_one(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    ((inputs, _),) = random_requests(model.features, model.manifest, 1, sizes=(5,))
    every = [np.array(slate) for slate in permutations(range(5), 3)]
    control = replace(Controls.default(model.manifest, 3), selection_temperature=0.8)
    found = propensities(model, [inputs] * len(every), [control] * len(every), every)
    assert sum(chances.prod() for chances in found) == pytest.approx(1.0, abs=1e-4)


def test_lookahead_is_no_part_of_sampling(tiny_bundles: "TinyBundles") -> None:
    model = LoadedModel.open(tiny_bundles(evaluators=1))
    ((inputs, _),) = random_requests(model.features, model.manifest, 1, sizes=(12,))
    plain = Controls.default(model.manifest, 4)
    slate = np.array([3, 1, 0, 7])
    one, other = (
        propensities(model, [inputs], [control], [slate])[0]
        for control in (plain, replace(plain, lookahead=2))
    )
    assert one.tolist() == other.tolist()
