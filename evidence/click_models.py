"""Click models fitted to a log, each list read by one that has not seen its person (cross-fitting).

Legend: L lists, K positions.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.contract import NO_ITEM
from evidence.logged_lists import Floats, Slates, padded
from model.data.slate import bucket_of
from model.encoder import FeatureSizes
from model.evaluator import ClickModel
from model.training.config import RunConfig
from model.training.examples import Example, to_batch
from model.training.fit_evaluator import fit_one
from model.training.phase import RunLog

FOLDS = 3
HELD_OUT = 8
"""One of so many people of the other folds chooses the epoch."""

BATCH = 256


class CrossFitted:
    """One click model for each fold of people."""

    def __init__(self, models: Sequence[ClickModel], fold_of: NDArray[np.int64]) -> None:
        """`fold_of`: which model has not seen each list's person, `[L]`."""
        self._models, self._fold_of = models, fold_of

    @classmethod
    def fit(
        cls,
        config: RunConfig,
        sizes: FeatureSizes,
        examples: Sequence[Example],
        people: Sequence[str],
        folds: int = FOLDS,
    ) -> "CrossFitted":
        """Raises: ValueError: too few people for every fold to have some."""
        fold_of = np.array([bucket_of(f"judged:{person}", folds) for person in people])
        chooses = np.array([bucket_of(f"chooses:{person}", HELD_OUT) == 0 for person in people])
        models = []
        for fold in range(folds):
            train, held_out = (
                [examples[row] for row in np.flatnonzero((fold_of != fold) & which).tolist()]
                for which in (~chooses, chooses)
            )
            if not train or not held_out:
                raise ValueError(f"{len(set(people))} people are too few to fit {folds} click models to")
            with tempfile.TemporaryDirectory() as name:
                log = RunLog(Path(name))
                fitted = fit_one(config, f"click_model_{fold}", Path(name), log, sizes, train, held_out)
                log.close()
            models.append(fitted.eval())
        return cls(models, fold_of)

    @torch.no_grad()
    def clicks(self, examples: Sequence[Example], slates: Slates) -> Floats:
        """Chance of a click at each position of a list for the same people as it was fitted to; 0 past the
        end. `[L, K]`."""
        out: list[NDArray[np.float64]] = [np.empty(0)] * len(slates)
        for fold, model in enumerate(self._models):
            rows = np.flatnonzero(self._fold_of == fold).tolist()
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                batch = to_batch([examples[row]._replace(shown=slates[row], targets=None) for row in part])
                chance = model.logits(model.encode(batch.inputs), batch.shown).sigmoid()
                read = torch.where(batch.shown == NO_ITEM, 0.0, chance).double().numpy()
                for row, own in zip(part, read, strict=True):
                    out[row] = own[: len(slates[row])]
        return padded(out, 0.0)
