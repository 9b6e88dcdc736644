"""Click rates out of fold tell a ranker little of the labels they were counted from."""

from dataclasses import replace

import numpy as np
import pytest

from bundle.features.schema import FeatureSchema, FieldSpec
from evidence.click_rate_folds import LEFT_OUT, ONE_PERSON, above_chance, chance, shuffled
from model.data.features import FOLDS
from model.data.slate import SPLITS, Dataset, LoggedSlate, split_of
from model.metrics import ndcg

ITEMS, PEOPLE, LENGTH = 40, 600, 12
SCHEMA = FeatureSchema(fields=(FieldSpec(name="size", kind="numeric"),))


@pytest.fixture(scope="module")
def log() -> Dataset:
    """A list a person, of items told apart by their size, with clicks that nothing predicts."""
    rng = np.random.default_rng(0)
    slates = [
        LoggedSlate(
            request_id=f"r{person}",
            user_id=f"u{person}",
            candidates=tuple(f"i{item}" for item in rng.permutation(ITEMS)[:LENGTH]),
            shown=np.arange(LENGTH),
            labels=(rng.random(LENGTH) < 0.3).astype(np.float32),
            timestamp=float(person),
        )
        for person in range(PEOPLE)
    ]
    return Dataset(
        name="noise",
        items={f"i{item}": {"size": item} for item in range(ITEMS)},
        slates={split: [slate for slate in slates if split_of(slate.user_id) == split] for split in SPLITS},
        dropped={},
    )


def test_little_of_the_labels_leaks_into_rates_out_of_fold(log: Dataset) -> None:
    """Leaving one person out shows that it would be found."""
    found = {folds: above_chance(log, SCHEMA, folds, seed=0) for folds in (FOLDS, ONE_PERSON)}
    leaked = {folds: np.nanmean(parts[LEFT_OUT].values) for folds, parts in found.items()}
    assert leaked[FOLDS] < 0.08
    assert leaked[ONE_PERSON] > 0.3


def test_chance_is_the_mean_over_shuffled_labels(log: Dataset) -> None:
    slate = log.slates["train"][0]
    orders = [slate.shown]
    alone = replace(log, slates={"train": [slate] * 4000, "validation": [], "test": []})
    labels = [own.labels for own in shuffled(alone, 0).slates["train"]]
    assert {own.sum() for own in labels} == {slate.labels.sum()}
    assert chance(slate) == pytest.approx(ndcg(orders * len(labels), labels, 10).mean(), abs=0.01)


def test_a_list_without_clicks_has_no_chance(log: Dataset) -> None:
    slate = replace(log.slates["train"][0], labels=np.zeros(LENGTH, np.float32))
    assert np.isnan(chance(slate))
