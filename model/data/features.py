"""A dataset's slates as encoder inputs, with every statistic learned from its training users only.

An item's click rate seen while training is *out of fold*: the events of the slate's user and of a tenth
of the other users are taken out of it, for candidates and history alike. Leaving only the list itself
out leaks its labels, since the same item's rate then falls exactly where it was clicked
(docs/decisions/out-of-fold-ctr.md has the figures).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bundle.features.assembly import Candidates, FeatureAssembler
from bundle.features.catalogue import UNKNOWN, Catalogue
from bundle.features.fitting import FittedFeatures, fit
from bundle.features.popularity import PastEvents
from bundle.features.schema import FeatureSchema
from model.data.slate import SPLITS, Dataset, LoggedSlate, bucket_of

FOLDS = 10


class DatasetFeatures:
    """Fitted features of a dataset.

    Attributes:
        serving: what goes into the bundle, with the click counts of all training users.
    """

    def __init__(
        self,
        serving: FeatureAssembler,
        training: Mapping[int, FeatureAssembler] | None = None,
        folds: int = FOLDS,
    ) -> None:
        """`training`: by fold of users; without, there are no training lists to read."""
        self.serving, self._training, self._folds = serving, training or {}, folds

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        schema: FeatureSchema,
        folds: int = FOLDS,
        fitted: FittedFeatures | None = None,
    ) -> Self:
        """Learn vocabularies, scales and click counts from the training split.

        Args:
            folds: of training users, for click rates out of fold; far more than there are users leaves one
                user out.
            fitted: vocabularies and scales learned earlier, which weights go by; items and their counts are
                the dataset's all the same.

        Raises:
            ValueError: the training split is empty.
        """
        train = dataset.slates["train"]
        if not train:
            raise ValueError(f"{dataset.name}: no usable training list; {dataset.summary()}")
        clicks: defaultdict[int, Counter[str]] = defaultdict(Counter)
        impressions: defaultdict[int, Counter[str]] = defaultdict(Counter)
        latest = -math.inf
        for slate in train:
            latest = max(latest, slate.timestamp)
            fold = _fold_of(slate, folds)
            for index in slate.shown:
                impressions[fold][slate.candidates[index]] += 1
                clicks[fold][slate.candidates[index]] += int(slate.labels[index])
        total_clicks, total_impressions = (_total(counts.values()) for counts in (clicks, impressions))
        shown = sorted(total_impressions)
        items = {**dataset.items, **{item_id: {} for item_id in shown if item_id not in dataset.items}}
        past, in_lists = _past_events(dataset, schema, list(items))
        fitted = fitted or fit(
            schema,
            items=[dataset.items[item_id] for item_id in shown if item_id in dataset.items],
            users=(slate.user.profile for slate in train),
            contexts=(slate.context for slate in train),
            timestamp=latest,
            clicks=total_clicks.total(),
            impressions=total_impressions.total(),
            past=in_lists,
        )
        counts = {item_id: (total_clicks[item_id], total_impressions[item_id]) for item_id in shown}
        catalogue = Catalogue.build(fitted, items, counts, past)

        def by_row(events: Counter[str]) -> NDArray[np.float32]:
            return np.array([events[item_id] for item_id in catalogue.ids] + [0], np.float32)

        training = {
            fold: FeatureAssembler(fitted, catalogue.without(by_row(clicks[fold]), by_row(own)))
            for fold, own in impressions.items()
        }
        return cls(FeatureAssembler(fitted, catalogue), training, folds)

    def arrays(self, slate: LoggedSlate, training: bool) -> dict[str, NDArray[Any]]:
        """Encoder inputs of a slate; see `FeatureAssembler.request`."""
        assembler = self._training[_fold_of(slate, self._folds)] if training else self.serving
        candidates = Candidates(slate.candidates, slate.features, slate.scores)
        return assembler.request(candidates, slate.user, slate.context, slate.timestamp)


def _past_events(
    dataset: Dataset, schema: FeatureSchema, item_ids: list[str]
) -> tuple[PastEvents | None, list[tuple[float, NDArray[np.float64]]]]:
    """Positive events by row, without those of people who are in held-out lists alone; and of each training
    list the time, and what the schema's fields were then. Nothing where it has no such field."""
    if not schema.past:
        return None, []
    trained, *held_out = ({slate.user_id for slate in dataset.slates[split]} for split in SPLITS)
    unseen = set().union(*held_out) - trained
    row = {item_id: number for number, item_id in enumerate(item_ids)}
    past = PastEvents.build(
        len(item_ids),
        (
            (row[event.item_id], event.timestamp, event.value)
            for event in dataset.positives
            if event.user_id not in unseen and event.item_id in row
        ),
    )
    in_lists = []
    for slate in dataset.slates["train"]:
        rows = np.array([row.get(item_id, UNKNOWN) for item_id in slate.candidates])
        in_lists.append((slate.timestamp, past.read(schema.past, rows, slate.timestamp)))
    return past, in_lists


def _fold_of(slate: LoggedSlate, folds: int) -> int:
    return bucket_of(f"fold:{slate.user_id}", folds)


def _total(counts: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for own in counts:
        total.update(own)
    return total
