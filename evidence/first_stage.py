"""An initial ranker for a log that came without one: LambdaMART, out of fold.

Each training list is scored by a ranker that has not seen its user, as in production, where the initial
ranker is older than the lists it scores; held-out lists by one fitted on all training lists.
"""

from dataclasses import replace

import numpy as np

from bundle.features.schema import FeatureSchema
from model.baselines import lambdamart
from model.data.features import DatasetFeatures
from model.data.slate import SPLITS, Dataset, LoggedSlate, Split, bucket_of
from model.training.examples import Example, examples

INNER_FOLDS = 5


def with_scores(dataset: Dataset, schema: FeatureSchema, seed: int) -> Dataset:
    """The dataset with `scores` on every list; fitted and stopped on the training split alone."""
    features = DatasetFeatures.fit(dataset, schema)
    rows = {split: examples(dataset.slates[split], features, split == "train") for split in SPLITS}
    folds = np.array([bucket_of(f"inner:{slate.user_id}", INNER_FOLDS) for slate in dataset.slates["train"]])
    scored: dict[Split, list[LoggedSlate]] = {"train": list(dataset.slates["train"])}
    for fold in range(INNER_FOLDS):
        # The next fold decides when to stop, so that validation lists stay unseen by the first stage.
        stop, out = _pick(rows["train"], folds == (fold + 1) % INNER_FOLDS), np.flatnonzero(folds == fold)
        fitted = _pick(rows["train"], (folds != fold) & (folds != (fold + 1) % INNER_FOLDS))
        for index, scores in zip(
            out, lambdamart.fit(fitted, stop, seed).scores(_pick(rows["train"], folds == fold)), strict=True
        ):
            scored["train"][index] = replace(scored["train"][index], scores=tuple(scores.tolist()))
    ranker = lambdamart.fit(_pick(rows["train"], folds != 0), _pick(rows["train"], folds == 0), seed)
    for split in ("validation", "test"):
        scored[split] = [
            replace(slate, scores=tuple(scores.tolist()))
            for slate, scores in zip(dataset.slates[split], ranker.scores(rows[split]), strict=True)
        ]
    return replace(dataset, slates=scored)


def _pick(rows: list[Example], kept: np.ndarray) -> list[Example]:
    return [row for row, keep in zip(rows, kept, strict=True) if keep]
