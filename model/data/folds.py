"""The same log split five ways, by people or by time, so that five runs are five seeds and five splits."""

import math
from dataclasses import replace

from model.data.slate import SPLITS, Dataset, LoggedSlate, Split, bucket_of

FOLDS = 5
PERIODS = 10


def rotated(dataset: Dataset, fold: int) -> Dataset:
    """The dataset with the users of `fold` as test, of the next one as validation, the others as train.

    Raises:
        ValueError: no such fold.
    """
    _check(fold)
    slates: dict[Split, list[LoggedSlate]] = {split: [] for split in SPLITS}
    for slate in _all(dataset):
        bucket = bucket_of(slate.user_id, FOLDS)
        held_out: Split = "validation" if bucket == (fold + 1) % FOLDS else "train"
        slates["test" if bucket == fold else held_out].append(slate)
    return replace(dataset, slates=slates)


def by_time(dataset: Dataset, fold: int) -> Dataset:
    """Train before validation before test: of ten periods with equally many lists the last but `fold` as
    test, the one before it as validation, all earlier ones as train. Lists of the same time stay together,
    so that there are fewer periods where one time has a tenth of the lists.

    Raises:
        ValueError: no such fold, or no list earlier than its validation.
    """
    _check(fold)
    everything = sorted(_all(dataset), key=lambda slate: (slate.timestamp, slate.request_id))
    starts = sorted({everything[len(everything) * n // PERIODS].timestamp for n in range(PERIODS)})
    test = len(starts) - 1 - fold
    if test < 2:
        raise ValueError(f"fold {fold} needs {fold + 3} periods, but the lists' times make {len(starts)}")
    starts.append(math.inf)
    slates: dict[Split, list[LoggedSlate]] = {split: [] for split in SPLITS}
    for slate in everything:
        if slate.timestamp < starts[test + 1]:
            held_out: Split = "validation" if slate.timestamp >= starts[test - 1] else "train"
            slates["test" if slate.timestamp >= starts[test] else held_out].append(slate)
    return replace(dataset, slates=slates)


def _all(dataset: Dataset) -> list[LoggedSlate]:
    return [slate for split in SPLITS for slate in dataset.slates[split]]


def _check(fold: int) -> None:
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold must be 0 to {FOLDS - 1}, got {fold}")
