"""What the order and the neighbours of a list say about its clicks: where reasoning can pay, and where not.

The evaluator is compared with the same evaluator blind to both, on held-out lists. Where the difference is
nothing, an item's click probability is the same wherever it stands, and sorting by it is already the best
list: there is nothing to reason about. A position's own effect is part of the difference.
Legend: B lists, L positions.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.markup import escape
from torch import nn

from bundle.contract import NO_ITEM
from bundle.features.schema import Frozen
from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.encoder import FeatureSizes
from model.evaluator import ClickModel
from model.progress import console
from model.sizes import feature_sizes
from model.training.config import RunConfig
from model.training.examples import Example, batches, examples
from model.training.fit_evaluator import fit_one
from model.training.phase import RunLog

RESAMPLES = 2000


class ContextReport(Frozen):
    """Held-out log loss in nats per position, of the evaluator and of the blind one; what seeing gains, with
    its 95 % bootstrap interval over people."""

    log_loss: float
    blind_log_loss: float
    gain: float
    low: float
    high: float

    def __str__(self) -> str:
        advice = (
            "lists may gain from reasoning"
            if self.low > 0
            else "reasoning is advised off ([policy.reasoner] budget = 0), because sorting by each item's "
            "own click probability is already optimal, as far as this log can tell"
        )
        return (
            f"{advice}: order and neighbours are worth {self.gain:+.4f} nats a position [{self.low:+.4f}, "
            f"{self.high:+.4f}] of {self.blind_log_loss:.4f}, position among them"
        )


def context_of_log(config: RunConfig) -> ContextReport:
    """What order and neighbours are worth in the configured log, on its validation lists."""
    dataset = open_dataset(config)
    console.print(dataset.summary())
    features = DatasetFeatures.fit(dataset, config.features)
    train = examples(dataset.slates["train"][: config.training_lists], features, training=True)
    held_out = examples(dataset.slates["validation"], features, training=False)
    sizes, columns = feature_sizes(features.serving), features.serving.candidate_columns
    people = [slate.user_id for slate in dataset.slates["validation"]]
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        log = RunLog(run)
        evaluator = fit_one(config, "evaluator", run, log, sizes, train, held_out)
        found = report_context(config, run, log, columns, sizes, evaluator, train, held_out, people)
        log.close()
    return found


def report_context(
    config: RunConfig,
    run: Path,
    log: RunLog,
    columns: Sequence[str],
    sizes: FeatureSizes,
    evaluator: ClickModel,
    train: list[Example],
    held_out: list[Example],
    people: Sequence[str],
) -> ContextReport:
    """Fit the blind evaluator as the other was, the first of an ensemble, and compare the two.

    Args:
        columns: names of the columns of `candidate_numeric`.
        people: whose each of the held-out lists is.
    """
    seeing = evaluator.networks[0]
    place = list(columns).index("initial_position")  # in most logs the place a list was shown at
    unplaced, unplaced_held_out = ([_without(place, row) for row in rows] for rows in (train, held_out))
    blind = fit_one(config, "blind_evaluator", run, log, sizes, unplaced, unplaced_held_out, blind=True)
    found = compared(seeing, held_out, blind, unplaced_held_out, people)
    log.say(escape(str(found)))  # it names a section in brackets
    return found


def compared(
    evaluator: ClickModel,
    held_out: list[Example],
    blind: ClickModel,
    seen_by_blind: list[Example],
    people: Sequence[str],
) -> ContextReport:
    """Both evaluators on the same lists; `people` says whose each of them is."""
    loss, positions = _losses(evaluator, held_out)
    blind_loss, _ = _losses(blind, seen_by_blind)
    _, whose = np.unique(people, return_inverse=True)
    gained, counted = np.bincount(whose, blind_loss - loss), np.bincount(whose, positions)
    drawn = np.random.default_rng(0).integers(len(counted), size=(RESAMPLES, len(counted)))
    means = [gained[row].sum() / counted[row].sum() for row in drawn]
    low, high = np.quantile(means, [0.025, 0.975])
    return ContextReport(
        log_loss=loss.sum() / positions.sum(),
        blind_log_loss=blind_loss.sum() / positions.sum(),
        gain=gained.sum() / counted.sum(),
        low=low,
        high=high,
    )


def _without(place: int, row: Example) -> Example:
    numbers = row.inputs["candidate_numeric"].copy()
    numbers[:, place] = 0.0
    return row._replace(inputs={**row.inputs, "candidate_numeric": numbers})


@torch.no_grad()
def _losses(evaluator: ClickModel, rows: list[Example]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Summed log loss of each list, and its positions. `[B]` each."""
    losses, positions = [], []
    for batch in batches(rows, 256):
        logits = evaluator.logits(evaluator.encode(batch.inputs), batch.shown)
        written = batch.shown != NO_ITEM
        loss = nn.functional.binary_cross_entropy_with_logits(
            logits, batch.clicks(batch.shown), reduction="none"
        )
        losses.append((loss * written).sum(1).double().cpu().numpy())
        positions.append(written.sum(1).double().cpu().numpy())
    return np.concatenate(losses), np.concatenate(positions)
