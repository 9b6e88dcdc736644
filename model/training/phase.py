"""One phase of training: epochs, validation, the best weights kept, and resuming after a kill.

Knows nothing of what is learned. After every epoch the whole state is on disk, so a killed run that is
started again ends with the same weights as one that was not. Where several processes train, each batch is
shared out over them (`ranks`).
"""

import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from model.progress import console, duration, progress
from model.training.checkpoint import BOARD, METRICS, STATES, load_tensors, save_tensors
from model.training.config import PhaseConfig
from model.training.examples import Batch, Example, batch_indices, batches
from model.training.ranks import Share, align, from_first


class RunLog:
    """Every metric of a run: one line an epoch on the console, rows in metrics.csv, and TensorBoard."""

    def __init__(self, run: Path) -> None:
        self._path = run / METRICS
        if not self._path.exists():
            self._path.write_text("phase,epoch,metric,value\n")
        self._board = SummaryWriter(str(run / BOARD))

    def epoch(self, phase: str, epoch: int, epochs: int, metrics: Mapping[str, float], mark: str) -> None:
        """`epoch` of at most `epochs`, from 1; `mark` ends the line."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        console.print(f"[bold]{phase}[/] epoch {epoch} of {epochs}  {text}{mark}")
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows([phase, epoch, name, value] for name, value in metrics.items())
        for name, value in metrics.items():
            self._board.add_scalar(f"{phase}/{name}", value, epoch)
        self._board.flush()

    def say(self, text: str) -> None:
        console.print(text)

    def close(self) -> None:
        self._board.close()


class Phase:
    """Trains a module, keeps the weights with the best validation score.

    Attributes:
        module: what the optimiser moves.
        average: the exponential moving average of its weights, which is what is validated and kept.
        generator: the only source of the phase's own randomness.
    """

    def __init__(
        self,
        name: str,
        run: Path,
        log: RunLog,
        module: nn.Module,
        train: Sequence[Example],
        settings: PhaseConfig,
        seed: int,
        averaging: float,
        passes: int = 1,
    ) -> None:
        """`passes` is the number of updates that each batch serves; over all updates the learning rate
        rises for a tenth of them, then falls to nothing."""
        self.name, self.module, self._train, self._settings = name, module, train, settings
        self._state_path, self._log = run / STATES.replace("*", name), log
        self._steps = len(batch_indices(train, settings.batch, torch.Generator(), settings.batch_candidates))
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        updates = settings.epochs * self._steps * passes
        rising = max(0.1, 1.5 / (updates + 1))  # OneCycleLR divides by zero where it rises for one update
        self._schedule = OneCycleLR(
            self.optimizer, settings.learning_rate, total_steps=updates + 1, pct_start=rising
        )
        self.average = AveragedModel(module, avg_fn=_moving_average(averaging))
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.epoch = 0
        self.best_score = -float("inf")
        self._best_epoch = -1
        self._best = {name: value.clone() for name, value in module.state_dict().items()}
        self._resume()

    def batches(self) -> Iterator[Batch]:
        """The training lists once, shuffled, behind a progress bar; of each batch this process's share."""
        settings = self._settings
        cut = batches(self._train, settings.batch, self.generator, settings.batch_candidates)
        for batch in progress(cut, self.name, self._steps):
            self._share = Share(len(batch.labels))
            with self._share.draws():
                yield batch.cut(self._share.rows)

    def mean(self, value: Tensor, weight: Tensor | float) -> float:
        """Over the whole batch, of what this process's share of it has as its mean over so much weight."""
        return self._share.mean(value, weight)[0]

    def update(self, loss: Tensor, weight: Tensor | float = 1.0) -> float:
        """One step of the optimiser down a loss that is a mean over so much weight. Returns the whole
        batch's loss."""
        self.optimizer.zero_grad(set_to_none=True)
        mean, part = self._share.mean(loss, weight)
        (loss * part).backward()
        self._share.add_up(self.module.parameters())
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self._schedule.step()
        self.average.update_parameters(self.module)
        return mean

    def run(
        self,
        train: Callable[[], Mapping[str, float]],
        validate: Callable[[nn.Module], tuple[float, Mapping[str, float]]],
        score_before: float | None = None,
    ) -> float:
        """Train until done or out of patience; load the best weights into the module.

        Args:
            train: one epoch; returns metrics.
            validate: the score to maximise, and metrics, of a module in eval mode.
            score_before: the score that the weights must beat to be kept at all.

        Returns:
            The best score.
        """
        if score_before is not None and self.epoch == 0:
            self.best_score = score_before
        epochs = self._settings.epochs
        seconds: list[float] = []
        while self.epoch < epochs and self._patient():
            started = time.monotonic()
            align(self.module)
            self.module.train()
            metrics = dict(train())
            with torch.no_grad():
                score, validation = from_first(validate(self.average.module.eval()))
            better = score > self.best_score
            if better:
                self.best_score, self._best_epoch = score, self.epoch
                self._best = {k: v.clone() for k, v in self.average.module.state_dict().items()}
            seconds.append(time.monotonic() - started)
            metrics |= {**validation, "seconds": seconds[-1]}
            self.epoch += 1
            mark = "  *" if better else ""
            if (left := epochs - self.epoch) and self._patient():
                mark += f"  at most {duration(left * sum(seconds) / len(seconds))} left"
            self._log.epoch(self.name, self.epoch, epochs, metrics, mark)
            self._save()
        self.module.load_state_dict(self._best)
        self.module.eval()
        return self.best_score

    def _patient(self) -> bool:
        return self.epoch - 1 - max(self._best_epoch, 0) < self._settings.patience

    def _save(self) -> None:
        save_tensors(
            self._state_path,
            {
                "module": self.module.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
                "best": self._best,
                "progress": (self.epoch, self.best_score, self._best_epoch),
                "generator": self.generator.get_state(),
                "global_generator": torch.get_rng_state(),
            },
        )

    def _resume(self) -> None:
        there = self._state_path.exists()
        state = from_first(load_tensors(self._state_path) if there else None)
        if state is None:
            return
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._best = state["best"]
        self.epoch, self.best_score, self._best_epoch = state["progress"]
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["global_generator"])
        self._log.say(f"[bold]{self.name}[/] resumes after epoch {self.epoch} of {self._settings.epochs}")


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average that starts as a plain mean, so that early weights are soon forgotten."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        return averaged.lerp(current, max(1.0 - decay, 1.0 / (float(count) / 10.0 + 1.0)))

    return average
