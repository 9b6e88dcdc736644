"""Fits the evaluator to the log, and refuses one that cannot be trusted as a reward.

Legend: B lists, N candidates, L positions.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bundle.contract import NO_ITEM
from bundle.features.schema import Frozen
from model.encoder import FeatureSizes
from model.evaluator import ClickModel, Evaluator, EvaluatorEnsemble
from model.metrics import ndcg
from model.training.config import RunConfig
from model.training.examples import Batch, Example, batches
from model.training.phase import Phase, RunLog

SEEDS_APART = 1000
"""Between the seeds of an ensemble's members, so that runs of neighbouring seeds share none."""


class EvaluatorRejectedError(Exception):
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
            raise EvaluatorRejectedError(
                f"the evaluator cannot be trusted as a reward: {'; '.join(faults)}. Ways out: more training "
                "lists, better features, or no reinforcement ([reinforcement] epochs = 0)"
            )


def train_evaluator(
    config: RunConfig,
    run: Path,
    log: RunLog,
    sizes: FeatureSizes,
    train: list[Example],
    held_out: list[Example],
) -> tuple[ClickModel, list[EvaluatorReport]]:
    """Fit on the training lists, choose the epoch by log-loss on the held-out ones.

    Members of an ensemble start from other weights and see the lists in another order.

    Returns:
        The evaluator and its report; after it those of the members, where there are several.
    """
    members = []
    for number in range(config.evaluator.members):
        name = f"evaluator_{number + 1}" if number else "evaluator"
        seeded = config.model_copy(update={"seed": config.seed + number * SEEDS_APART})
        members.append(_fit_member(seeded, name, run, log, sizes, train, held_out))
    found: list[ClickModel] = [*members]
    if len(members) > 1:
        found.insert(0, EvaluatorEnsemble(members).eval())
    reports = [report(evaluator, held_out, config.seed) for evaluator in found]
    for own in reports:
        log.say(f"evaluator on held-out lists: {own}")
    return found[0], reports


def _fit_member(
    config: RunConfig,
    name: str,
    run: Path,
    log: RunLog,
    sizes: FeatureSizes,
    train: list[Example],
    held_out: list[Example],
) -> Evaluator:
    """Lists are cut at a random length, so that slates as short as the policy's are not new to it."""
    torch.manual_seed(config.seed)
    evaluator = Evaluator(config.evaluator, sizes)
    phase = Phase(name, run, log, evaluator, train, config.evaluator, config.seed, config.weight_averaging)

    def train_epoch() -> dict[str, float]:
        losses = []
        for batch in phase.batches():
            slate = _cut(batch.shown, config.policy.slate_length, phase.generator)
            loss = evaluator.loss(evaluator.encode(batch.inputs), slate, _clicks(batch, slate))
            phase.update(loss)
            losses.append(loss.item())
        return {"loss": float(np.mean(losses))}

    def validate(module: nn.Module) -> tuple[float, dict[str, float]]:
        assert isinstance(module, Evaluator)
        loss = _held_out_log_loss(module, held_out)
        return -loss, {"held_out_loss": loss}

    phase.run(train_epoch, validate)
    return evaluator


@torch.no_grad()
def report(evaluator: ClickModel, held_out: list[Example], seed: int) -> EvaluatorReport:
    """Judge a fitted evaluator on held-out lists."""
    generator = torch.Generator().manual_seed(seed)
    predicted, clicked, gains, ranked, labels, shown = [], [], [], [], [], []
    for batch in batches(held_out, 256):
        candidates = evaluator.encode(batch.inputs)
        logits = evaluator.logits(candidates, batch.shown)
        clicks, written = _clicks(batch, batch.shown), batch.shown != NO_ITEM
        predicted.append(logits.sigmoid()[written])
        clicked.append(clicks[written])
        shuffled = _shuffled(batch.shown, generator)
        shuffled_logits = evaluator.logits(candidates, shuffled)
        true_loss = _list_loss(logits, clicks, written)
        gains.append(_list_loss(shuffled_logits, _clicks(batch, shuffled), written) - true_loss)
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


def calibration_error(probability: np.ndarray, clicked: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over equal-mass bins: mean |predicted - observed|."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(probability[part].mean() - clicked[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(order))


def _held_out_log_loss(evaluator: Evaluator, held_out: list[Example]) -> float:
    total, count = 0.0, 0
    for batch in batches(held_out, 256):
        positions = int((batch.shown != NO_ITEM).sum())
        loss = evaluator.loss(evaluator.encode(batch.inputs), batch.shown, _clicks(batch, batch.shown))
        total, count = total + loss.item() * positions, count + positions
    return total / count


def _clicks(batch: Batch, slate: Tensor) -> Tensor:
    """Labels in the order of the slate. `[B, L]`."""
    return batch.labels.gather(1, slate.clamp(min=0))


def _cut(shown: Tensor, shortest: int, generator: torch.Generator) -> Tensor:
    """Each list cut at a random length of at least `shortest`; lists that are shorter stay whole."""
    longest = shown.shape[1]
    if longest <= shortest:
        return shown
    lengths = torch.randint(shortest, longest + 1, (len(shown), 1), generator=generator)
    return shown.masked_fill(torch.arange(longest) >= lengths, NO_ITEM)


def _shuffled(shown: Tensor, generator: torch.Generator) -> Tensor:
    """The same items in another order, padding kept at the end."""
    keys = torch.rand(shown.shape, generator=generator).masked_fill(shown == NO_ITEM, 2.0)
    return shown.gather(1, keys.argsort(1))


def _list_loss(logits: Tensor, clicks: Tensor, written: Tensor) -> Tensor:
    """Mean log-loss of each list, nats per position. `[B]`."""
    losses = nn.functional.binary_cross_entropy_with_logits(logits, clicks, reduction="none")
    return (losses * written).sum(1) / written.sum(1)


def _log_loss(probability: np.ndarray, clicked: np.ndarray) -> float:
    p = np.clip(probability, 1e-7, 1 - 1e-7)
    return float(-(clicked * np.log(p) + (1 - clicked) * np.log(1 - p)).mean())
