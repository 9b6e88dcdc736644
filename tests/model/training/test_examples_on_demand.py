"""Lists whose features are computed on demand train as those that are kept."""

import numpy as np
import pytest
import torch
from small_run import small_config

from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.training import examples as module
from model.training.examples import OnDemand, batches, examples


@pytest.mark.parametrize("candidates", [None, 200])
def test_batches_are_the_same(candidates: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(simulator={"items": 200, "lists": 60, "candidates": (12, 20)})
    dataset = open_dataset(config)
    features = DatasetFeatures.fit(dataset, config.features)
    kept = examples(dataset.slates["train"], features, training=True)
    monkeypatch.setattr(module, "MOST_KEPT", 10)
    wanted = examples(dataset.slates["train"], features, training=True)
    assert isinstance(wanted, OnDemand)
    assert len(wanted[-5:]) == 5
    pairs = zip(
        batches(kept, 8, torch.Generator().manual_seed(1), candidates),
        batches(wanted, 8, torch.Generator().manual_seed(1), candidates),
        strict=True,
    )
    for one, other in pairs:
        assert torch.equal(one.shown, other.shown)
        for name, array in one.inputs.items():
            np.testing.assert_array_equal(array, other.inputs[name])
