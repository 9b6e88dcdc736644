"""Expert iteration: the policy looks ahead on the training lists, and imitates what comes of it.

Looking ahead is an expert that is better than the policy it starts from; taught to the policy, it is had at
serving time for nothing, and the next round starts higher (Anthony et al. 2017, arXiv 1705.08439). The target
at a position is softmax(Q / temperature) over the candidates that were tried, as improved policies are in
Danihelka et al. 2022, "Policy improvement by planning with Gumbel" (ICLR), Q the evaluator's reward of the
completed list. Departs from it in trying the policy's most probable candidates instead of a Gumbel sample of
them, in completing each list greedily once instead of searching deeper, and in leaving the policy's own
logits out of the target. GoalRank (arXiv 2509.22046) teaches a ranker by a reward model's scores of groups of
whole lists; here the groups are the alternatives of one position, from a prefix that is already improved.

Legend: B lists, N candidates, K slate length, A alternatives.
"""

from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.evaluator import ClickModel
from model.policy import Policy
from model.training.config import ExpertIterationConfig
from model.training.examples import Example, batch_indices, to_batch
from model.training.lookahead import LookedAhead, look_ahead
from model.training.ranks import spread
from model.training.rollout import threshold_gate

LOOKED_AHEAD_CANDIDATES = 16_384
"""Most candidates of a batch that is looked ahead on, each tried with its alternatives' lists."""


def improved_lists(
    policy: Policy,
    evaluator: ClickModel,
    train: list[Example],
    settings: ExpertIterationConfig,
    threshold: float,
) -> list[Example]:
    """The lists, with the improved slates in the place of what was shown, and the targets.

    Args:
        threshold: of the policy's own gate.
    """
    policy.eval()
    evaluator.eval()

    def improved(rows: list[int]) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        batch = to_batch([train[row] for row in rows])
        found = look_ahead(policy, evaluator, batch.inputs, threshold_gate(threshold), settings.alternatives)
        targets = improved_policy(found, batch.mask.shape[1], settings.temperature).cpu().numpy()
        own = [target[:, : len(train[row].labels)].copy() for row, target in zip(rows, targets, strict=True)]
        return list(zip(found.slates.slates(), own, strict=True))

    cut = batch_indices(train, LOOKED_AHEAD_CANDIDATES, candidates=LOOKED_AHEAD_CANDIDATES)
    found = chain.from_iterable(spread(cut, improved, "looking ahead"))
    return [
        example._replace(shown=slate, targets=targets)
        for example, (slate, targets) in zip(train, found, strict=True)
    ]


def improved_policy(found: LookedAhead, candidates: int, temperature: float) -> Tensor:
    """softmax(Q / temperature) over the alternatives, zeros elsewhere and past the end. `[B, K, N]`."""
    weights = (found.values / temperature).softmax(-1).nan_to_num()  # NaN where nothing is left to choose
    nothing = weights.new_zeros(*weights.shape[:2], candidates)
    return nothing.scatter(2, found.alternatives, weights)
