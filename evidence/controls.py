"""Other ways of deciding when to reason, with the entropy gate's own number of tokens where possible.

Each decodes an already trained policy. Legend: B lists, K positions, S reasoning budget.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bundle.manifest import GateKind
from evidence.cell import Cell
from evidence.search import BATCH, best_of, looked_ahead
from model.policy import Policy
from model.training.calibration import calibrate
from model.training.decoding import decode
from model.training.examples import Example, batches
from model.training.lookahead import EVERYWHERE
from model.training.rollout import NEVER, GateDecision, Rollout, greedy, replay_gate, roll_out, threshold_gate

ALWAYS = -1.0
QUANTILES = (0.2, 0.4, 0.8)
BUDGETS = (1, 3)
SAMPLED_LISTS = 4
ALTERNATIVES = 3

Decoded = tuple[list[Rollout], int]
"""Slates of the test lists in batches, and the budget they had."""


def decodings(policy: Policy, cell: Cell) -> Iterator[tuple[str | None, Decoded]]:
    """The policy's own gate first (no control), then every control, by name."""
    budget, quantile = policy.config.reasoner.budget, policy.config.reasoner.gate_quantile
    threshold = calibrate(policy, cell.held_out, quantile).threshold
    if not budget:
        never = threshold_gate(NEVER)
        yield None, (decode(policy, cell.test, never), 0)
        yield f"best of {SAMPLED_LISTS} lists by the evaluator", (best_of(policy, cell, SAMPLED_LISTS), 0)
        for name, limit in (("at gated positions", threshold), ("everywhere", EVERYWHERE)):
            yield f"lookahead {name}", (looked_ahead(policy, cell, never, limit, ALTERNATIVES), 0)
        return
    if policy.config.reasoner.taught == "last":  # never taught to stop early
        threshold = ALWAYS
    own = decode(policy, cell.test, threshold_gate(threshold))
    yield None, (own, budget)
    yield "reasoning switched off", (decode(policy, cell.test, threshold_gate(NEVER)), 0)
    yield "always", (decode(policy, cell.test, threshold_gate(ALWAYS)), budget)
    for other in BUDGETS:
        for kind, limit in (("always", ALWAYS), ("entropy gate", threshold)):
            slates = decode(policy, cell.test, threshold_gate(limit), other)
            yield f"{kind}, S = {other}", (slates, other)
    for share in QUANTILES:
        gated = calibrate(policy, cell.held_out, share).threshold
        yield f"entropy gate, quantile {share}", (decode(policy, cell.test, threshold_gate(gated)), budget)
    yield "random gate", (_same_budget(policy, cell.test, own, _shuffled), budget)
    yield "all tokens first", (_same_budget(policy, cell.test, own, _all_first), budget)
    kinds: tuple[GateKind, ...] = ("raw", "margin")
    for kind in kinds:
        with _gate_kind(policy, kind):
            gated = calibrate(policy, cell.held_out, quantile).threshold
            yield f"{kind} gate", (decode(policy, cell.test, threshold_gate(gated)), budget)
    looked = looked_ahead(policy, cell, threshold_gate(threshold), threshold, ALTERNATIVES)
    yield "entropy gate and lookahead at gated positions", (looked, budget)
    if budget > 1:
        yield "convergence gate", (_until_converged(policy, cell), budget)


def _same_budget(
    policy: Policy, rows: list[Example], own: list[Rollout], spend: Callable[[Tensor], Tensor]
) -> list[Rollout]:
    """The tokens `[B, K]` that the policy's own gate spent, spent differently."""
    tokens = spend(torch.cat([rollout.tokens for rollout in own]))
    most = int(tokens.max())
    return [
        roll_out(policy, policy.encode(batch.inputs), batch.mask, replay_gate(part), greedy, most)
        for batch, part in zip(batches(rows, BATCH), tokens.split(BATCH), strict=True)
    ]


def _shuffled(tokens: Tensor) -> Tensor:
    """Other lists' tokens at the same position: as many per position, but regardless of difficulty."""
    generator = torch.Generator().manual_seed(0)
    columns = [column[torch.randperm(len(tokens), generator=generator)] for column in tokens.unbind(1)]
    return torch.stack(columns, dim=1)


def _all_first(tokens: Tensor) -> Tensor:
    """All of a list's tokens before its first position."""
    first = torch.zeros_like(tokens)
    first[:, 0] = tokens.sum(1)
    return first


def _until_converged(policy: Policy, cell: Cell) -> list[Rollout]:
    """Reason on while the last token still changed the distribution by more than the held-out median."""
    changes: list[Tensor] = []

    def gate(limit: float, changed: list[Tensor]) -> GateDecision:
        before: list[Tensor] = []

        def decide(position: int, token: int, doubt: Tensor, log_p: Tensor) -> Tensor:
            if token == 0:
                before[:] = [log_p]
                return torch.ones_like(doubt, dtype=torch.bool)
            change = (log_p.exp() * (log_p - before[0])).sum(-1)
            before[:] = [log_p]
            changed.append(change)
            return change > limit

        return decide

    decode(policy, cell.held_out, gate(-1.0, changes))
    return decode(policy, cell.test, gate(float(torch.cat(changes).median()), []))


@contextmanager
def _gate_kind(policy: Policy, kind: GateKind) -> Iterator[None]:
    own = policy.config
    reasoner = own.reasoner.model_copy(update={"gate": kind})
    policy.config = own.model_copy(update={"reasoner": reasoner})
    try:
        yield
    finally:
        policy.config = own
