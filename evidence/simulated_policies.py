"""Policies of the simulator that are judged by each other's lists, and those that log them.

Legend: L lists, N candidates, K positions, those of the longest list.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from evidence.click_models import BATCH
from evidence.estimators import mixed
from evidence.logged_lists import Floats
from model.policy import Policy
from model.training.examples import Example, batches
from model.training.rollout import greedy, replay_choice, roll_out, sample, threshold_gate

LENGTHS = (4, 10)
"""Of the lists that are judged; policies write the longest."""

Lists = NDArray[np.int64]  # [L, K]


class Chooser(Protocol):
    """A policy of the simulator."""

    def write(self, rows: Sequence[Example], temperature: float | None, seed: int) -> Lists:
        """Sampled at a temperature, or greedy. `[L, K]`, K the longest of `LENGTHS`."""
        ...

    def chances(self, rows: Sequence[Example], slates: Lists, temperature: float) -> Floats:
        """Of each item given those before it. `[L, K]`."""
        ...


class Network:
    """A policy with its gate, as training decodes it."""

    def __init__(self, policy: Policy, threshold: float) -> None:
        self._policy, self._gate = policy.eval(), threshold_gate(threshold)

    @torch.no_grad()
    def write(self, rows: Sequence[Example], temperature: float | None, seed: int) -> Lists:
        choose = greedy if temperature is None else sample(torch.Generator().manual_seed(seed))
        policy = self._at(temperature or 1.0)
        written = [
            roll_out(policy, policy.encode(batch.inputs), batch.mask, self._gate, choose).slate
            for batch in batches(rows, BATCH)
        ]
        return torch.cat(written).numpy()

    @torch.no_grad()
    def chances(self, rows: Sequence[Example], slates: Lists, temperature: float) -> Floats:
        policy, found = self._at(temperature), []
        for number, batch in enumerate(batches(rows, BATCH)):
            choose = replay_choice(torch.from_numpy(slates[number * BATCH : (number + 1) * BATCH]))
            written = roll_out(policy, policy.encode(batch.inputs), batch.mask, self._gate, choose)
            found.append(written.log_probability.double().exp())
        return torch.cat(found).numpy()

    def noisy(self, noise: float) -> "Network":
        """With each weight off by this share of its tensor's spread."""
        other, generator = copy.deepcopy(self), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in other._policy.parameters():
                if weight.numel() > 1:
                    weight.add_(noise * weight.std() * torch.randn(weight.shape, generator=generator))
        return other

    def _at(self, temperature: float) -> Policy:
        policy = copy.copy(self._policy)
        policy.config = policy.config.model_copy(update={"selection_temperature": temperature})
        return policy


class InitialScore:
    """Sorted by the initial ranker's score, or a Plackett-Luce sample of it."""

    def __init__(self, column: int) -> None:
        self._column = column

    def write(self, rows: Sequence[Example], temperature: float | None, seed: int) -> Lists:
        scores = self._scores(rows)
        if temperature is not None:
            scores = scores / temperature + np.random.default_rng(seed).gumbel(size=scores.shape)
        return np.argsort(-scores, axis=1, kind="stable")[:, : max(LENGTHS)]

    def chances(self, rows: Sequence[Example], slates: Lists, temperature: float) -> Floats:
        odds = np.exp(self._scores(rows) / temperature)
        chosen = np.take_along_axis(odds, slates, axis=1)
        gone = np.cumsum(chosen, axis=1) - chosen
        return np.asarray(chosen / (odds.sum(1, keepdims=True) - gone))

    def _scores(self, rows: Sequence[Example]) -> Floats:
        return np.stack([row.inputs["candidate_numeric"][:, self._column] for row in rows]).astype(float)


@dataclass(frozen=True)
class Judged:
    """One of the twenty: with probability `share` its list is sampled at `temperature`, else it is greedy."""

    name: str
    chooser: Chooser
    temperature: float = 1.0
    share: float = 1.0

    def write(self, rows: Sequence[Example], seed: int) -> Lists:
        """Lists as it would show them."""
        sampled = self.sampled(rows, seed)
        if self.share == 1:
            return sampled
        explores = np.random.default_rng(seed).random((len(rows), 1)) < self.share
        return np.where(explores, sampled, self.greedy(rows))

    def sampled(self, rows: Sequence[Example], seed: int) -> Lists:
        return self.chooser.write(rows, self.temperature, seed) if self.share else self.greedy(rows)

    def greedy(self, rows: Sequence[Example]) -> Lists:
        return self.chooser.write(rows, None, 0)

    def chances(self, rows: Sequence[Example], slates: Lists, own_greedy: Lists) -> Floats:
        """Of given lists; `own_greedy` means nothing where all is sampled."""
        sampled = (
            self.chooser.chances(rows, slates, self.temperature) if self.share else np.ones(slates.shape)
        )
        return mixed(sampled, own_greedy == slates, np.full(len(rows), self.share))


def judged_policies(trained: dict[str, Network], score_column: int) -> list[Judged]:
    """The twenty."""
    best, few, warm = trained.values()
    score = InitialScore(score_column)
    at_temperatures: list[tuple[Chooser, str, float]] = [
        *((best, "imitation", t) for t in (0.5, 0.7, 1.0, 1.4, 2.0, 3.0)),
        *((few, "imitation, few lists", t) for t in (0.7, 1.0, 1.4)),
        *((warm, "warm start", t) for t in (1.0, 1.4)),
        *((score, "initial score", t) for t in (0.5, 1.0)),
        *((best.noisy(noise), f"imitation, noise {noise}", 1.0) for noise in (0.1, 0.3)),
    ]
    greedily: tuple[tuple[Chooser, str], ...] = (
        (best, "imitation"),
        (few, "imitation, few lists"),
        (warm, "warm start"),
        (score, "initial score"),
    )
    return [
        *(Judged(f"{name} at {t:g}", chooser, t) for chooser, name, t in at_temperatures),
        *(Judged(f"{name}, greedy", chooser, share=0.0) for chooser, name in greedily),
        Judged("imitation, 30 % at 1", best, 1.0, 0.3),
    ]


def logging_policies(trained: dict[str, Network]) -> list[Judged]:
    best = trained["imitation"]
    return [
        Judged("all sampled at 1", best, 1.0),
        Judged("all sampled at 2", best, 2.0),
        Judged("20 % sampled at 1", best, 1.0, 0.2),
    ]
