"""Looking ahead: a slate improved position by position with the evaluator's help, while there is time.

Where the gate is open, the most probable other items are tried, best first: the policy completes the slate
after each, the evaluator says what the whole is worth, the best stays, and the next position goes on from
there. The same as `model.training.lookahead`, which teaches by it. What time allows is a whole slate at any
moment, never worse to the evaluator than the policy's own.

The result follows from the request alone (and from the time there was), so that its propensities are 1.
Legend: B requests, R slates, L places, A alternatives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Named
from bundle.contract import NO_ITEM, UNLIMITED_MICRO_STEPS
from engine.generation import (
    Begun,
    Controls,
    Position,
    Slate,
    Times,
    read_begun,
    stack_controls,
    why_reasoning_stopped,
)

A_LOOK = 128
"""Places of slates that are completed and judged between two looks at the clock: about a millisecond's."""


class Writer(Protocol):
    """Writes slates of the same requests again and again."""

    def encode(self, inputs: Named) -> Any:
        """Once a batch. `inputs`: one array for each of `ENCODER_INPUTS`."""
        ...

    def write(
        self,
        encoded: Any,
        rows: NDArray[np.int64],
        controls: Named,
        times: Times,
        prefix: NDArray[np.int64],
        alternatives: int,
    ) -> Begun:
        """Write slates that begin as they are told to.

        Args:
            rows: `[R]`, whose request each is written for.
            controls, times: `[R]` each, none of them to sample.
            prefix: `[R, P]`, candidate indices, NO_ITEM where a slate goes on by itself. What is recorded of
                these positions, but for `chosen`, means nothing.
            alternatives: A of what is returned, for every micro-step of the rest.
        """
        ...


class Evaluator(Protocol):
    """Says what whole lists are worth."""

    def encode(self, inputs: Named) -> Any:
        """Once a batch. `inputs`: one array for each of `ENCODER_INPUTS`."""
        ...

    def values(self, encoded: Any, rows: NDArray[np.int64], slates: NDArray[np.int64]) -> NDArray[np.float32]:
        """`[R]`, whose request each slate is for; `[R, L]`, NO_ITEM past the end -> `[R]`."""
        ...


@dataclass(frozen=True, slots=True)
class _Draft:
    """A slate, and at each position the others that could have stood there, with their probability."""

    slate: Slate
    others: tuple[tuple[tuple[int, float], ...], ...]

    @property
    def items(self) -> list[int]:
        return [position.index for position in self.slate.positions]

    def improved(self, position: int, item: int, chance: float, rest: "_Draft") -> "_Draft":
        """With another item at a position, and what the policy writes after it."""
        here = replace(self.slate.positions[position], index=item, probability=chance)
        positions = (*self.slate.positions[:position], here, *rest.slate.positions[position + 1 :])
        slate = replace(self.slate, positions=positions)
        return _Draft(slate, (*self.others[: position + 1], *rest.others[position + 1 :]))


@dataclass(frozen=True, slots=True)
class _Trial:
    row: int
    item: int
    chance: float


class Lookahead:
    """A writer and an evaluator of the same bundle."""

    def __init__(self, writer: Writer, evaluator: Evaluator) -> None:
        self.writer, self.evaluator = writer, evaluator

    def generate(self, inputs: Named, requests: Sequence[Controls], candidates: Sequence[int]) -> list[Slate]:
        """Write the slates of a batch, each looking as far as its controls say, until their `reason_until`.

        Args:
            inputs: one array for each of `ENCODER_INPUTS`.
            requests: none of them sampled.
            candidates: each request's own N.
        """
        return _Batch(self.writer, self.evaluator, inputs, requests, candidates).generate()


class _Batch:
    """One call of `Lookahead.generate`."""

    def __init__(
        self,
        writer: Writer,
        evaluator: Evaluator,
        inputs: Named,
        requests: Sequence[Controls],
        candidates: Sequence[int],
    ) -> None:
        self._writer, self._evaluator, self._inputs, self._requests = writer, evaluator, inputs, requests
        self._controls = stack_controls(requests, candidates)
        self._encoded = writer.encode(inputs)
        self._alternatives = max(max(request.lookahead, request.trace_candidates) for request in requests)
        self._longest = max(request.slate_length for request in requests)
        self._thresholds = [float(np.float32(request.entropy_threshold)) for request in requests]
        self._judged = [0] * len(requests)
        self._hurried = [False] * len(requests)

    def generate(self) -> list[Slate]:
        rows = np.arange(len(self._requests))
        none = np.empty((len(rows), 0), np.int64)
        drafts = self._drafts(rows, self._controls, Times.of(self._requests), none)
        evaluated: Any = None
        values: list[float] = []
        for position in range(self._longest):
            better: dict[int, _Draft] = {}
            for trials in self._trials(drafts, position):
                if evaluated is None:
                    evaluated = self._evaluator.encode(self._inputs)
                    slates = self._slates([draft.items for draft in drafts])
                    values = self._evaluator.values(evaluated, rows, slates).tolist()
                found = self._completed(drafts, position, trials)
                whole = np.array([trial.row for trial, _ in found], np.int64)
                slates = self._slates([draft.items for _, draft in found])
                for (trial, draft), value in zip(
                    found, self._evaluator.values(evaluated, whole, slates).tolist(), strict=True
                ):
                    self._judged[trial.row] += 1
                    if value > values[trial.row]:
                        values[trial.row] = value
                        own = drafts[trial.row]
                        better[trial.row] = own.improved(position, trial.item, trial.chance, draft)
            for row, draft in better.items():
                drafts[row] = draft
        return [self._finished(row, draft.slate) for row, draft in enumerate(drafts)]

    def _trials(self, drafts: Sequence[_Draft], position: int) -> Iterator[list[_Trial]]:
        """What to try at a position, the most probable first, in parts, as long as there is time."""
        open_rows = [row for row, draft in enumerate(drafts) if self._is_open(row, draft, position)]
        trials = [
            _Trial(row, *drafts[row].others[position][rank])
            for rank in range(self._alternatives)
            for row in open_rows
            if rank < min(len(drafts[row].others[position]), self._requests[row].lookahead)
        ]
        part = max(1, A_LOOK // self._longest)
        for start in range(0, len(trials), part):
            now = monotonic()
            in_time = []
            for trial in trials[start : start + part]:
                if now < self._requests[trial.row].reason_until:
                    in_time.append(trial)
                else:
                    self._hurried[trial.row] = True
            if in_time:
                yield in_time

    def _is_open(self, row: int, draft: _Draft, position: int) -> bool:
        """Whether the gate was open there, before any token was spent; never in a slate that is not whole."""
        if len(draft.slate.positions) < self._requests[row].slate_length:
            return False
        if position >= len(draft.slate.positions):
            return False
        here = draft.slate.positions[position]
        return here.reasoning_tokens > 0 or here.uncertainty > self._thresholds[row]

    def _completed(
        self, drafts: Sequence[_Draft], position: int, trials: Sequence[_Trial]
    ) -> list[tuple[_Trial, _Draft]]:
        """The slates that could be completed in time."""
        rows = np.array([trial.row for trial in trials], np.int64)
        prefix = np.array([[*drafts[trial.row].items[:position], trial.item] for trial in trials], np.int64)
        controls = {name: array[rows] for name, array in self._controls.items()}
        controls["micro_step_budget"][:] = UNLIMITED_MICRO_STEPS
        until = np.array([self._requests[trial.row].reason_until for trial in trials])
        found = []
        for trial, draft in zip(
            trials, self._drafts(rows, controls, Times(until, until), prefix), strict=True
        ):
            if len(draft.slate.positions) == self._requests[trial.row].slate_length:
                found.append((trial, draft))
            else:
                self._hurried[trial.row] = True
        return found

    def _drafts(
        self, rows: NDArray[np.int64], controls: Named, times: Times, prefix: NDArray[np.int64]
    ) -> list[_Draft]:
        begun = self._writer.write(self._encoded, rows, controls, times, prefix, self._alternatives)
        drafts = []
        for row, slate in enumerate(read_begun([self._requests[row] for row in rows], begun)):
            steps = np.flatnonzero(begun.records["chosen"][:, row] != NO_ITEM)
            items, chances = begun.runners_up[row, steps].tolist(), begun.chances[row, steps].tolist()
            others = tuple(
                tuple((i, c) for i, c in zip(*here, strict=True) if i != NO_ITEM)
                for here in zip(items, chances, strict=True)
            )
            drafts.append(_Draft(slate, others))
        return drafts

    def _slates(self, lists: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        slates = np.full((len(lists), self._longest), NO_ITEM, np.int64)
        for row, items in enumerate(lists):
            slates[row, : len(items)] = items
        return slates

    def _finished(self, row: int, slate: Slate) -> Slate:
        positions: tuple[Position, ...] = slate.positions
        stop = "deadline" if self._hurried[row] else why_reasoning_stopped(positions, self._requests[row])
        return replace(slate, stop=stop, judged=self._judged[row])
