"""User folds: the same log split five ways, so that five runs are five seeds and five splits."""

from dataclasses import replace

from model.data.slate import SPLITS, Dataset, LoggedSlate, Split, bucket_of

FOLDS = 5


def rotated(dataset: Dataset, fold: int) -> Dataset:
    """The dataset with the users of `fold` as test, of the next one as validation, the others as train.

    Raises:
        ValueError: no such fold.
    """
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold must be 0 to {FOLDS - 1}, got {fold}")
    slates: dict[Split, list[LoggedSlate]] = {split: [] for split in SPLITS}
    for slate in (slate for split in SPLITS for slate in dataset.slates[split]):
        bucket = bucket_of(slate.user_id, FOLDS)
        held_out: Split = "validation" if bucket == (fold + 1) % FOLDS else "train"
        slates["test" if bucket == fold else held_out].append(slate)
    return replace(dataset, slates=slates)
