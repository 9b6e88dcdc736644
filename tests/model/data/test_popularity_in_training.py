"""Popularity in training sees the past of training people alone."""

from dataclasses import replace

import numpy as np

from bundle.features.schema import FeatureSchema
from model.data import movietweetings
from model.data.features import DatasetFeatures
from model.data.movietweetings import DAY_S, Rating
from model.data.slate import SPLITS, Dataset, LoggedSlate, Positive

SCHEMA = FeatureSchema.model_validate(
    {
        "item_ctr": False,
        "fields": [
            {"name": "week", "kind": "popularity", "window_days": 7},
            {"name": "ever", "kind": "popularity"},
            {"name": "since", "kind": "first_seen"},
            {"name": "rating", "kind": "mean_value"},
        ],
    }
)


def log() -> Dataset:
    """Sixty people rate four of seven films in the first weeks, and the others later."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        films = rng.permutation(7)
        early, late = rng.uniform(0, 40, 4), rng.uniform(46, 100, 3)
        rows += [
            Rating(f"u{user}", f"f{film}", int(rng.integers(1, 11)), day * DAY_S)
            for film, day in zip(films, (*early, *late), strict=True)
        ]
    return movietweetings.lists(sorted(rows, key=lambda rating: rating.timestamp), {})


def counters(dataset: Dataset, slate: LoggedSlate, training: bool = True) -> np.ndarray:
    features = DatasetFeatures.fit(dataset, SCHEMA)
    columns = [features.serving.candidate_columns.index(name) for name in ("week", "ever", "since", "rating")]
    fitted = features.serving.fitted.scales
    scales = np.array(
        [
            (fitted[f"item.{name}"].mean, fitted[f"item.{name}"].std)
            for name in ("week", "ever", "since", "rating")
        ]
    )
    numbers = features.arrays(slate, training)["candidate_numeric"][:, columns]
    return np.asarray(numbers * scales[:, 1] + scales[:, 0])


def counted(dataset: Dataset, slate: LoggedSlate) -> np.ndarray:
    """Again, event by event."""
    held_out = {s.user_id for split in ("validation", "test") for s in dataset.slates[split]}
    rows = []
    for film in slate.candidates:
        before = [
            event
            for event in dataset.positives
            if event.item_id == film and event.timestamp < slate.timestamp and event.user_id not in held_out
        ]
        week = sum(event.timestamp >= slate.timestamp - 7 * DAY_S for event in before)
        rows.append((week, len(before), np.mean([event.value for event in before])))
    return np.array(rows)


def test_counters_are_what_training_people_did_before() -> None:
    dataset = log()
    slates = [slate for split in SPLITS for slate in dataset.slates[split][:3]]
    assert len(slates) == 9
    for slate in slates:
        found = counters(dataset, slate)
        np.testing.assert_allclose(found[:, [0, 1, 3]], counted(dataset, slate), atol=1e-3)
        np.testing.assert_array_equal(found, counters(dataset, slate, training=False))


def test_what_comes_later_never_counts() -> None:
    """Whatever happens from a list's time on, its own clicks among it, its counters are the same."""
    dataset = log()
    slate = sorted(dataset.slates["train"], key=lambda slate: slate.timestamp)[10]
    later = [n for n, event in enumerate(dataset.positives) if event.timestamp >= slate.timestamp]
    assert len(later) > 20
    positives = list(dataset.positives)
    shuffled = np.random.default_rng(1).permutation(later)
    for place, other in zip(later, shuffled, strict=True):
        event = dataset.positives[other]
        positives[place] = Positive(event.user_id, slate.candidates[0], positives[place].timestamp, 1.0)
    own = counters(dataset, slate)
    np.testing.assert_allclose(counters(replace(dataset, positives=positives), slate), own, atol=1e-3)
    earlier = [replace_time(event, slate.timestamp - 1) for event in positives]
    assert not np.allclose(counters(replace(dataset, positives=earlier), slate), own, atol=1e-3)


def test_held_out_people_never_count() -> None:
    dataset = log()
    slate = dataset.slates["train"][-1]
    held_out = {s.user_id for split in ("validation", "test") for s in dataset.slates[split]}
    positives = [event for event in dataset.positives if event.user_id not in held_out]
    assert len(positives) < len(dataset.positives)
    np.testing.assert_array_equal(
        counters(replace(dataset, positives=positives), slate), counters(dataset, slate)
    )


def replace_time(event: Positive, timestamp: float) -> Positive:
    return event._replace(timestamp=min(event.timestamp, timestamp))
