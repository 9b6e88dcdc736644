"""Judges a fitted evaluator on held-out lists, and refuses one that cannot be trusted as a reward.

Legend: B lists, L positions.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.contract import NO_ITEM
from bundle.errors import RerankerError
from bundle.features.schema import Frozen
from model.evaluator import ClickModel
from model.metrics import ndcg
from model.training.examples import Example, batches

Floats = NDArray[np.floating]


class EvaluatorRejectedError(RerankerError):
    """The evaluator failed a check on held-out lists; training on its scores would mislead the policy."""


class EvaluatorReport(Frozen):
    """How the evaluator does on held-out lists.

    Attributes:
        log_loss, base_log_loss: nats per position, of the evaluator and of the mean click rate.
        calibration_error: expected calibration error over ten equal-mass bins.
        ndcg, initial_ndcg: NDCG@10 of the list sorted by click probability, and as it was shown.
        order_gain: nats per position that the clicks lose in likelihood when the same items are put in
            another order; `order_gain_error` is its standard error over lists.
    """

    log_loss: float
    base_log_loss: float
    calibration_error: float
    ndcg: float
    initial_ndcg: float
    order_gain: float
    order_gain_error: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self.model_dump().items())

    def check(self, largest_calibration_error: float) -> None:
        """Raises EvaluatorRejectedError, naming what failed and by how much."""
        faults = []
        if self.ndcg <= self.initial_ndcg:
            faults.append(f"NDCG@10 {self.ndcg:.4f} as a ranker, the initial order {self.initial_ndcg:.4f}")
        if self.calibration_error > largest_calibration_error:
            faults.append(f"calibration error {self.calibration_error:.3f} above {largest_calibration_error}")
        if self.order_gain <= 0.0:
            faults.append(f"two orders of the same items look alike (gain {self.order_gain:.5f} nats)")
        if faults:
            raise EvaluatorRejectedError(f"the evaluator cannot be trusted as a reward: {'; '.join(faults)}")


@torch.no_grad()
def report(evaluator: ClickModel, held_out: list[Example], seed: int) -> EvaluatorReport:
    """Judge a fitted evaluator on held-out lists."""
    generator = torch.Generator().manual_seed(seed)
    predicted, clicked, gains, ranked, labels, shown = [], [], [], [], [], []
    for batch in batches(held_out, 256):
        candidates = evaluator.encode(batch.inputs)
        slates = (batch.shown, _shuffled(batch.shown, generator))
        logits, shuffled_logits = (evaluator.logits(candidates, slate).cpu() for slate in slates)
        clicks, shuffled_clicks = (batch.clicks(slate).cpu() for slate in slates)
        written = batch.shown.cpu() != NO_ITEM
        predicted.append(logits.sigmoid()[written])
        clicked.append(clicks[written])
        true_loss = _list_loss(logits, clicks, written)
        gains.append(_list_loss(shuffled_logits, shuffled_clicks, written) - true_loss)
        for row in range(len(clicks)):
            length = int(written[row].sum())
            ranked.append(logits[row, :length].argsort(descending=True, stable=True).numpy())
            labels.append(clicks[row, :length].numpy())
            shown.append(np.arange(length))
    probability, click = torch.cat(predicted).numpy(), torch.cat(clicked).numpy()
    gain, rate = torch.cat(gains), float(click.mean())
    return EvaluatorReport(
        log_loss=_log_loss(probability, click),
        base_log_loss=_log_loss(np.full_like(probability, rate), click),
        calibration_error=calibration_error(probability, click),
        ndcg=float(np.nanmean(ndcg(ranked, labels, 10))),
        initial_ndcg=float(np.nanmean(ndcg(shown, labels, 10))),
        order_gain=float(gain.mean()),
        order_gain_error=float(gain.std() / len(gain) ** 0.5),
    )


def calibration_error(probability: Floats, clicked: Floats, bins: int = 10) -> float:
    """Expected calibration error over equal-mass bins: mean |predicted - observed|."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(probability[part].mean() - clicked[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(order))


def _shuffled(shown: Tensor, generator: torch.Generator) -> Tensor:
    """The same items in another order, padding kept at the end."""
    keys = torch.rand(shown.shape, generator=generator).to(shown.device).masked_fill(shown == NO_ITEM, 2.0)
    return shown.gather(1, keys.argsort(1))


def _list_loss(logits: Tensor, clicks: Tensor, written: Tensor) -> Tensor:
    """Mean log-loss of each list, nats per position. `[B]`."""
    losses = nn.functional.binary_cross_entropy_with_logits(logits, clicks, reduction="none")
    return (losses * written).sum(1) / written.sum(1)


def _log_loss(probability: Floats, clicked: Floats) -> float:
    p = np.clip(probability, 1e-7, 1 - 1e-7)
    return float(-(clicked * np.log(p) + (1 - clicked) * np.log(1 - p)).mean())
