"""The gate's threshold, set from held-out lists, with what was met at it.

Legend: B lists, K positions.
"""

import torch
from torch import Tensor

from bundle.manifest import Calibration
from bundle.reference import ENTROPY_NATS, LIST_SIZES, POSITIONS, SCORES, TRIGGERED, Distribution, Reference
from model.policy import Policy
from model.training.decoding import decode
from model.training.examples import Example
from model.training.rollout import NEVER, Rollout, threshold_gate


@torch.no_grad()
def calibrate(policy: Policy, held_out: list[Example], quantile: float) -> Calibration:
    """Set the gate's threshold from held-out lists, in eval mode, after the last training phase.

    The threshold is a quantile of the uncertainties met while decoding greedily; since reasoning changes
    what is met later, it is taken once without reasoning and once more with it.
    """
    policy.eval()
    threshold = NEVER
    for _ in range(2):
        slates = decode(policy, held_out, threshold_gate(threshold))
        met = torch.cat([rollout.uncertainty[rollout.written] for rollout in slates])
        threshold = float(met.quantile(quantile))
    slates = decode(policy, held_out, threshold_gate(threshold))
    written = torch.cat([rollout.written for rollout in slates])
    tokens = torch.cat([rollout.tokens for rollout in slates])
    return Calibration(
        kind=policy.config.reasoner.gate,
        threshold=threshold,
        quantile=quantile,
        trigger_rate=float((tokens > 0)[written].float().mean()),
        tokens_per_list=float((tokens * written).sum(1).float().mean()),
        entropy_by_position={
            "before": _by_position(torch.cat([rollout.entropy_before for rollout in slates]), written),
            "after": _by_position(torch.cat([rollout.entropy_after for rollout in slates]), written),
        },
        reference=_reference(policy, held_out, slates),
    )


def _reference(policy: Policy, held_out: list[Example], slates: list[Rollout]) -> Reference:
    """The distributions of what these slates met."""
    written = torch.cat([rollout.written for rollout in slates])
    entropy = torch.cat([rollout.entropy_before for rollout in slates])
    tokens = torch.cat([rollout.tokens for rollout in slates])
    chosen = []
    for rollout in slates:  # at temperature 1, as answers give it, from the selection temperature's
        log_p = torch.log_softmax(rollout.log_policy * policy.config.selection_temperature, dim=-1)
        chosen.append(log_p.gather(-1, rollout.slate.unsqueeze(-1)).squeeze(-1).exp())
    return Reference(
        entropy=tuple(
            Distribution.of(entropy[:, k][written[:, k]], ENTROPY_NATS)
            for k in range(min(written.shape[1], POSITIONS))
        ),
        tokens=Distribution.of(tokens[written], TRIGGERED),
        score=Distribution.of(torch.cat(chosen)[written], SCORES),
        list_size=Distribution.of([len(example.labels) for example in held_out], LIST_SIZES),
    )


def _by_position(entropy: Tensor, written: Tensor) -> list[float]:
    """Mean of `[B, K]` over the lists that reach each position. `[K]`."""
    means = (entropy * written).sum(0) / written.sum(0).clamp(min=1)
    return [round(value, 4) for value in means.tolist()]
