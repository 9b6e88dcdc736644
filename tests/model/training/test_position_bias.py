"""Clicks fall with the position, whatever stands there: the evaluator is to say so, not to blame items."""

import numpy as np
import torch

from bundle.features.schema import FeatureSchema, FieldSpec
from model.data.features import DatasetFeatures
from model.data.slate import Dataset, LoggedSlate, Split
from model.sizes import feature_sizes
from model.training.config import RunConfig
from model.training.examples import batches, examples
from model.training.fit_evaluator import fit_one
from model.training.phase import RunLog

EXAMINED = 0.6 * 0.6 ** np.arange(5)
"""Chance of a click at each position, were the item the best."""


def test_what_a_position_is_worth_is_told_from_what_an_item_is(tmp_path) -> None:
    """The logging policy puts good items first, three times in four; equals must come out as equals."""
    rng = np.random.default_rng(0)
    items = {f"i{n}": {"good": float(n % 2)} for n in range(10)}
    slates: dict[Split, list[LoggedSlate]] = {"train": [], "validation": [], "test": []}
    for n in range(3000):
        ids = rng.choice(10, 5, replace=False)
        shown = np.argsort(-(ids % 2) * (rng.random() < 0.75) + 0.5 * rng.random(5))
        labels = np.zeros(5, np.float32)
        worth = np.where(ids[shown] % 2, 1.0, 0.5)
        labels[shown] = rng.random(5) < EXAMINED * worth
        ids_of = tuple(f"i{one}" for one in ids)
        slate = LoggedSlate(f"r{n}", f"u{n}", ids_of, shown, labels, float(n))
        slates["train" if n < 2500 else "validation"].append(slate)
    schema = FeatureSchema(fields=(FieldSpec(name="good", kind="numeric"),), item_ctr=False)
    config = RunConfig.model_validate(
        {
            "dataset": "simulator",
            "features": schema,
            "evaluator": {"width": 16, "epochs": 8, "learning_rate": 0.01},
        }
    )
    dataset = Dataset("positions", items, slates, {})
    features = DatasetFeatures.fit(dataset, schema)
    train, held_out = (
        examples(slates[split], features, training=split == "train") for split in ("train", "validation")
    )
    log = RunLog(tmp_path)
    evaluator = fit_one(config, "evaluator", tmp_path, log, feature_sizes(features.serving), train, held_out)
    log.close()
    (batch,) = batches(held_out, 1000)
    turned = torch.from_numpy(np.stack([np.roll(np.arange(5), n % 5) for n in range(len(held_out))]))
    with torch.no_grad():
        found = evaluator.logits(evaluator.encode(batch.inputs), turned).sigmoid().numpy()
    good = np.array(
        [
            [int(slate.candidates[place][1:]) % 2 for place in row]
            for slate, row in zip(slates["validation"], turned.tolist(), strict=True)
        ]
    )
    for kind, worth in ((1, 1.0), (0, 0.5)):
        by_position = [found[:, k][good[:, k] == kind].mean() for k in range(5)]
        assert np.abs(by_position - worth * EXAMINED).max() < 0.06
