"""Greedy slates of many lists.

Legend: B lists, N candidates, K positions.
"""

import torch

from model.policy import Policy
from model.training.examples import Example, batches
from model.training.rollout import GateDecision, Rollout, greedy, roll_out

BATCH = 256
MOST_CANDIDATES = 65_536
"""Most candidates of a batch, so that full attention over long lists fits in memory."""


@torch.no_grad()
def decode(
    policy: Policy, rows: list[Example], decide: GateDecision, budget: int | None = None
) -> list[Rollout]:
    """Greedy slates of all examples, in batches, in order; `decide` and `budget` as in `roll_out`."""
    return [
        roll_out(policy, policy.encode(batch.inputs), batch.mask, decide, greedy, budget)
        for batch in batches(rows, BATCH, candidates=MOST_CANDIDATES)
    ]
