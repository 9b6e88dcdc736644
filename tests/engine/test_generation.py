"""Controls in, slates out."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.generation import Controls
from engine.loaded_model import LoadedModel
from export.parity import random_requests


def test_greedy_propensity_is_one_and_sampled_is_not(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    ((arrays, _),) = random_requests(model.features, model.manifest, 1, sizes=(24,))
    greedy = replace(Controls.default(model.manifest, 5), selection_temperature=1.0)
    warm, hot = replace(greedy, seed=3), replace(greedy, seed=3, selection_temperature=1e4)
    slates = [model.generate([arrays], [control])[0].positions for control in (greedy, warm, hot)]
    assert all(position.propensity == 1.0 for position in slates[0])
    assert all(0.0 < position.propensity == position.probability < 1.0 for position in slates[1])
    for left, position in zip(range(24, 19, -1), slates[2], strict=True):  # so hot that all are alike
        assert position.propensity == pytest.approx(1 / left, rel=0.01)
    assert len({tuple(position.index for position in slate) for slate in slates}) == 3
