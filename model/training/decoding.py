"""Greedy slates of many lists.

Legend: B lists, N candidates, K positions.
"""

import torch

from model.policy import Policy
from model.training.examples import Example, batch_indices, to_batch
from model.training.ranks import spread
from model.training.rollout import GateDecision, Rollout, greedy, roll_out

BATCH = 256
MOST_CANDIDATES = 65_536
"""Most candidates of a batch, so that full attention over long lists fits in memory."""


@torch.no_grad()
def decode(
    policy: Policy, rows: list[Example], decide: GateDecision, budget: int | None = None
) -> list[Rollout]:
    """Greedy slates of all examples, in batches, in order, on the CPU; arguments as in `roll_out`."""

    def decoded(cut: list[int]) -> Rollout:
        batch = to_batch([rows[row] for row in cut])
        return roll_out(policy, policy.encode(batch.inputs), batch.mask, decide, greedy, budget).cpu()

    return spread(batch_indices(rows, BATCH, candidates=MOST_CANDIDATES), decoded, "decoding")
