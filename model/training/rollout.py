"""Slates sampled or decoded from a policy, position by position, with what replaying them needs.

The same parts as `Policy.micro_step`, in the order training wants: all rows stand at the same position.
Legend: B requests (or requests x group), N candidates, K slate length, S reasoning budget.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from constraints.planning import Plan
from constraints.tracking import Tracker, stack
from model.encoder import Memory
from model.policy import Policy, StepState
from model.reasoning import entropy_nats, log_probabilities, uncertainty

GateDecision = Callable[[int, int, Tensor, Tensor], Tensor]
"""`(position, token, uncertainty [B], log_p [B, N]) -> [B] bool, True = spend one more token`."""

Choice = Callable[[int, Tensor], Tensor]
"""`(position, log_p [B, N] at the selection temperature) -> [B] int64, the candidate to emit`."""


NEVER = float("inf")
"""A threshold no uncertainty is above."""


class Rollout(NamedTuple):
    """Slates and how they came about.

    `written` is False past the end of a list with fewer than K candidates; the other fields mean
    nothing there. Entropies in nats, before the first and after the last reasoning token.
    """

    slate: Tensor  # [B, K] int64
    log_probability: Tensor  # [B, K] float32, of the item at the selection temperature
    log_policy: Tensor  # [B, K, N] float32, of every candidate at the selection temperature
    tokens: Tensor  # [B, K] int64, reasoning tokens spent
    written: Tensor  # [B, K] bool
    entropy_before: Tensor  # [B, K] float32
    entropy_after: Tensor  # [B, K] float32
    uncertainty: Tensor  # [B, K] float32, what the gate saw first

    def cpu(self) -> "Rollout":
        """The same on the CPU."""
        return Rollout(*(column.cpu() for column in self))

    def slates(self) -> list[NDArray[np.int64]]:
        """What was written in each row, without what lies past the end of its list."""
        slates = zip(self.slate.cpu(), self.written.cpu(), strict=True)
        return [slate[written].numpy() for slate, written in slates]


class Decision(NamedTuple):
    """A position whose reasoning is done and whose item is still to be chosen."""

    state: StepState
    log_policy: Tensor  # [B, N] float32, of every candidate at the selection temperature
    entropy_before: Tensor  # [B] float32
    entropy_after: Tensor  # [B] float32
    uncertainty: Tensor  # [B] float32, what the gate saw first


def reason(
    policy: Policy,
    memory: Memory,
    state: StepState,
    position: int,
    decide: GateDecision,
    budget: int | None = None,
) -> Decision:
    """Spend the reasoning tokens that `decide` allows at a position."""
    config = policy.config
    temperature = torch.full_like(state.readout[:, :1], config.reasoner.temperature)
    logits = policy.decoder.logits(state.readout, memory)
    log_p = log_probabilities(logits, state.selectable)
    before = entropy_nats(log_p)
    first = uncertainty(log_p, before, state.selectable, config.reasoner.gate)
    doubt = first
    going = torch.ones_like(doubt, dtype=torch.bool)
    for token in range(config.reasoner.budget if budget is None else budget):
        going = going & decide(position, token, doubt, log_p)
        if not going.any():
            break
        state = policy.reason(state, logits, memory, temperature).where(going, state)
        logits = policy.decoder.logits(state.readout, memory)
        log_p = log_probabilities(logits, state.selectable)
        doubt = uncertainty(log_p, entropy_nats(log_p), state.selectable, config.reasoner.gate)
    log_q = log_probabilities(logits, state.selectable, config.selection_temperature)
    return Decision(state, log_q, before, entropy_nats(log_p), first)


def roll_out(
    policy: Policy,
    memory: Memory,
    mask: Tensor,
    decide: GateDecision,
    choose: Choice,
    budget: int | None = None,
    start: StepState | None = None,
    constraints: Sequence[Plan | None] | None = None,
) -> Rollout:
    """Write a slate in every row.

    Args:
        mask: `[B, N] bool, True = a real candidate`.
        decide: whether to reason on; `threshold_gate` decides as serving does, `replay_gate` repeats.
        choose: `greedy`, `sample`, or `replay_choice`.
        budget: most reasoning tokens per position; the policy's own when not given.
        start: where to go on from, all rows at the same position short of the last; the rollout then has
            the positions from there on.
        constraints: what each row's slate is to satisfy, planned for the policy's slate length at most; not
            where a start is given.
    """
    assert start is None or constraints is None
    state = policy.begin(memory, mask) if start is None else start
    columns: list[tuple[Tensor, ...]] = []
    tracker = Tracker(stack(constraints or []))
    left = mask.cpu().numpy().copy() if tracker.constrains else None
    for position in range(0 if start is None else int(state.position[0]), policy.config.slate_length):
        if left is not None:
            narrowed = torch.from_numpy(tracker.narrowed(left))
            state = state._replace(selectable=narrowed.to(mask.device))
        written = state.selectable.any(1)
        state, log_q, before, after, doubt = reason(policy, memory, state, position, decide, budget)
        chosen = choose(position, log_q)
        taken = log_q.gather(1, chosen.unsqueeze(1)).squeeze(1)
        columns.append((chosen, taken, log_q, state.tokens_here, written, before, after, doubt))
        state = policy.commit(state, chosen, memory)
        if left is not None:
            tracker.place(chosen.where(written, -1).cpu().numpy(), left)
    return Rollout(*(torch.stack(column, dim=1) for column in zip(*columns, strict=True)))


def threshold_gate(threshold: float) -> GateDecision:
    """The entropy gate: reason above the threshold."""
    return lambda position, token, doubt, log_p: doubt > threshold


def replay_gate(tokens: Tensor) -> GateDecision:
    """Repeat recorded decisions, `[B, K] int64`, so that two policies are scored on one token sequence."""
    return lambda position, token, doubt, log_p: tokens[:, position] > token


def greedy(position: int, log_p: Tensor) -> Tensor:
    """The most probable candidate."""
    return log_p.argmax(-1)


def sample(generator: torch.Generator) -> Choice:
    """A candidate at random, by its probability."""
    return lambda position, log_p: torch.multinomial(log_p.exp(), 1, generator=generator).squeeze(1)


def replay_choice(slate: Tensor) -> Choice:
    """Repeat a recorded slate, `[B, K] int64`."""
    return lambda position, log_p: slate[:, position]
