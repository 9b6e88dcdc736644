"""One request's slate: its controls on the way in, its slate and trace on the way out.

Legend: B requests, N candidates, M micro-steps, P noise positions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.contract import CONTROLS, NO_ITEM, NOISE, RECORD, UNLIMITED_MICRO_STEPS
from bundle.manifest import Manifest
from constraints.planning import Plan
from constraints.tracking import stack

GREEDY = "greedy"
"""Of `RECORD`."""

CONSTRAINTS = "constraints"
"""Beside the `CONTROLS` of a batch: `[B, S] int64`, `constraints.tracking.stack`."""

Stop = Literal["entropy", "budget", "deadline"]


@dataclass(frozen=True, slots=True)
class Controls:
    """What a request may change about its generation: its value of each of `CONTROLS`, a seed for the noise.

    Attributes:
        slate_length: items to write, at most its candidates.
        entropy_threshold: the gate reasons above this, in the unit of the bundle's gate.
        reasoning_budget: most reasoning tokens per position.
        lookahead: other items to try at each position whose uncertainty is above the threshold, where nothing
            is sampled (`engine.lookahead`).
        seed: sample with this seed; None decodes greedily.
        exploration_share: of lists such as this one, those that are sampled: propensities are then those of
            the mixture, whichever of the two this one is. None: it is what its seed says, for certain.
        micro_step_budget: reason only while the slate still fits in this many micro-steps.
        reason_until: reason only before this time, `time.monotonic()` seconds.
        deadline: at this time the slate is left as it is, with fewer items than `slate_length`. The slate
            graph sees no clock, and heeds neither time.
        trace_candidates: leading candidates whose probabilities are told of each micro-step.
        constraints: what the slate is to satisfy, planned for its length.
    """

    slate_length: int
    entropy_threshold: float
    reasoning_budget: int
    reasoning_temperature: float
    selection_temperature: float
    lookahead: int = 0
    seed: int | None = None
    exploration_share: float | None = None
    micro_step_budget: int = UNLIMITED_MICRO_STEPS
    reason_until: float = math.inf
    deadline: float = math.inf
    trace_candidates: int = 0
    constraints: Plan | None = None

    @property
    def looks_ahead(self) -> bool:
        """What is sampled stays as it was drawn, with the propensities that it was drawn with."""
        return self.lookahead > 0 and self.seed is None

    @classmethod
    def default(cls, manifest: Manifest, slate_length: int) -> "Controls":
        """Greedy decoding with what the bundle was calibrated for."""
        return cls(
            slate_length=slate_length,
            entropy_threshold=manifest.gate.threshold,
            reasoning_budget=manifest.reasoning_budget,
            reasoning_temperature=manifest.reasoning_temperature,
            selection_temperature=manifest.selection_temperature,
            lookahead=manifest.lookahead,
        )


class Times(NamedTuple):
    """`Controls.reason_until` and `Controls.deadline` of a batch, `[B] float64` each."""

    reason_until: NDArray[np.float64]
    deadline: NDArray[np.float64]

    @classmethod
    def of(cls, requests: Sequence[Controls]) -> "Times":
        return cls(*(np.array([getattr(request, name) for request in requests]) for name in cls._fields))

    @classmethod
    def unlimited(cls, batch: int) -> "Times":
        return cls(*(np.full(batch, np.inf) for _ in cls._fields))


class Begun(NamedTuple):
    """Slates that were begun for their writer, and which candidates each micro-step had beside the chosen."""

    records: dict[str, NDArray[Any]]  # as a runner's
    runners_up: NDArray[np.int64]  # [R, M, A], the most probable others, best first; NO_ITEM where none is
    chances: NDArray[np.float32]  # [R, M, A], their probability at temperature 1


class MicroStep(NamedTuple):
    """What the policy saw before it wrote a token: its entropy in nats, what the gate compared, and the most
    probable candidates, best first, with their probability at temperature 1."""

    entropy: float
    uncertainty: float
    candidates: list[int]
    probabilities: list[float]


@dataclass(slots=True)  # not frozen, which would make ten of them cost a list 10 microseconds
class Position:
    """One position of the slate, as generated.

    `probability` is the chosen candidate's at temperature 1 among those remaining; `propensity` its
    probability, given those before it, under the policy that chose: 1 when greedy for certain. Entropies in
    nats, before the first and after the last reasoning token; `uncertainty` is what the gate saw last.
    `micro_steps` are those of its reasoning tokens, then its own, where they are traced.
    """

    index: int
    probability: float
    propensity: float
    reasoning_tokens: int
    entropy_before: float
    entropy_after: float
    uncertainty: float
    micro_steps: tuple[MicroStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Slate:
    """A request's generated list and why its reasoning stopped where it did.

    `stop` is `entropy` when the gate was content at every position, `budget` when some position used
    all its tokens and was still above the threshold, `deadline` when the micro-step budget or time
    cut it, or the lookahead. `judged` is how many other lists the evaluator compared it with.
    """

    positions: tuple[Position, ...]
    stop: Stop
    judged: int = 0

    @property
    def reasoning_tokens(self) -> int:
        return sum(position.reasoning_tokens for position in self.positions)

    @property
    def micro_steps(self) -> int:
        return len(self.positions) + self.reasoning_tokens


def stack_controls(requests: Sequence[Controls], candidates: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Controls of a batch as runners take them. `candidates` is each request's own N."""
    sampled = any(request.seed is not None for request in requests)
    positions = max(request.slate_length for request in requests) if sampled else 1
    noise = np.zeros((len(requests), positions, max(candidates)), np.float32)
    for row, (request, n) in enumerate(zip(requests, candidates, strict=True)):
        if request.seed is not None:  # drawn in the request's own shape: the same slate in any batch
            shape = (request.slate_length, n)
            noise[row, : shape[0], :n] = np.random.default_rng(request.seed).gumbel(size=shape)
    stacked: dict[str, NDArray[Any]] = {
        spec.name: noise if spec is NOISE else np.array([getattr(r, spec.name) for r in requests], spec.dtype)
        for spec in CONTROLS
    }
    stacked[CONSTRAINTS] = stack([request.constraints for request in requests])
    return stacked


def read_slates(requests: Sequence[Controls], records: dict[str, NDArray[Any]]) -> list[Slate]:
    """Slates of a batch from the graphs' records, each `[M, B]`."""
    if GREEDY not in records:  # and then nobody explores, who would have to know
        records = {**records, GREEDY: np.zeros_like(records["reasoned"])}
    by_row = zip(*(records[spec.name].T.tolist() for spec in RECORD), strict=True)
    return [_read_slate(request, *record) for request, record in zip(requests, by_row, strict=True)]


def _read_slate(request: Controls, *record: list[Any]) -> Slate:
    """From one row of each of `RECORD`, `[M]`."""
    positions: list[Position] = []
    share, certain = request.exploration_share, request.seed is None
    tokens, before = 0, 0.0
    for chosen, reasoned, entropy, uncertainty, probability, propensity, greedy in zip(*record, strict=True):
        if tokens == 0:
            before = entropy
        if reasoned:
            tokens += 1
            continue
        if chosen == NO_ITEM:  # the slate is full; other requests of the batch go on
            break
        if share is not None:
            propensity, share = _mixed(share, propensity, greedy)
        elif certain:
            propensity = 1.0
        positions.append(Position(chosen, probability, propensity, tokens, before, entropy, uncertainty))
        tokens = 0
    return Slate(tuple(positions), why_reasoning_stopped(positions, request))


def read_begun(requests: Sequence[Controls], begun: Begun) -> list[Slate]:
    """Slates of a batch, with the micro-steps of those that are traced."""
    slates = read_slates(requests, begun.records)
    return [
        _traced(slate, row, request.trace_candidates, begun) if request.trace_candidates else slate
        for row, (slate, request) in enumerate(zip(slates, requests, strict=True))
    ]


def _traced(slate: Slate, row: int, count: int, begun: Begun) -> Slate:
    """With the `count` leading candidates of each micro-step."""
    entropy, uncertainty = (begun.records[name][:, row].tolist() for name in ("entropy", "uncertainty"))
    others, chances = begun.runners_up[row].tolist(), begun.chances[row].tolist()
    positions, step = [], 0
    for position in slate.positions:
        chosen_at = step + position.reasoning_tokens
        micro_steps = []
        for m in range(step, chosen_at + 1):
            known = [(chance, i) for i, chance in zip(others[m], chances[m], strict=True) if i != NO_ITEM]
            if m == chosen_at:
                known.append((position.probability, position.index))
                known.sort(key=itemgetter(0), reverse=True)
            leading = known[:count]
            shares, items = [chance for chance, _ in leading], [item for _, item in leading]
            micro_steps.append(MicroStep(entropy[m], uncertainty[m], items, shares))
        positions.append(replace(position, micro_steps=tuple(micro_steps)))
        step = chosen_at + 1
    return replace(slate, positions=tuple(positions))


def _mixed(share: float, sampled: float, greedy: bool) -> tuple[float, float]:
    """An item's propensity in a mixture of lists that are sampled and the greedy one, and the share of those
    sampled among the lists that begin as this one does, with the item.

    The share of the former is updated by Bayes' rule, so that the products of many small numbers are never
    formed: P(a_k | a_<k) = e_k q_k + (1 - e_k) [a_k is greedy], e_k+1 = e_k q_k / P(a_k | a_<k).

    Args:
        share: of those sampled among the lists that begin with the items before.
        sampled: propensity of the item where it is sampled.
        greedy: whether it is the greedy one.
    """
    drawn = share * sampled
    mixed = drawn + (1.0 - share) * greedy
    return mixed, drawn / mixed if mixed else 1.0


def why_reasoning_stopped(positions: Sequence[Position], request: Controls) -> Stop:
    """As in `Slate`."""
    stop: Stop = "entropy"
    threshold = float(np.float32(request.entropy_threshold))  # as the graph compared it
    budget = request.reasoning_budget
    for position in positions:
        if position.uncertainty > threshold and budget > 0:
            if position.reasoning_tokens < budget:
                return "deadline"
            stop = "budget"
    return stop
