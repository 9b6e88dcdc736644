"""The slates a beam search finds best under the evaluator: teachers for the policy.

Legend: B requests, N candidates, K slate length, W beams, D width.
"""

from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bundle.contract import NO_ITEM
from model.evaluator import ClickModel, ReadSoFar
from model.training.config import RunConfig
from model.training.examples import Example, batch_indices, to_batch
from model.training.ranks import spread

TAKEN = -1e6
"""Worth of taking an item twice: below every real slate."""


@torch.no_grad()
def best_slates(
    evaluator: ClickModel,
    candidates: Tensor,
    mask: Tensor,
    length: int,
    width: int,
    any_click: bool = False,
) -> Tensor:
    """The best slate of each request among those that `width` beams come across.

    Args:
        candidates: `[B, N, D]`, from `ClickModel.encode`.
        mask: `[B, N] bool, True = a real candidate`.
        any_click: best is the slate with the highest probability of at least one click, 1 - prod(1 - p), not
            the one with the highest reward.

    Returns:
        `[B, K] int64`, NO_ITEM past the end of a list with fewer than K candidates.
    """
    rows, count, _ = candidates.shape
    slates = torch.empty(rows, 1, 0, dtype=torch.int64, device=mask.device)  # [B, W, k]
    value = torch.zeros(rows, 1, device=mask.device)
    free, so_far = mask.unsqueeze(1), evaluator.start(candidates)
    for position in range(min(length, count)):
        beams = slates.shape[1]
        odds = evaluator.next_logits(candidates.repeat_interleave(beams, 0), so_far)
        # softplus(odds) = -log(1 - p): of no click, log probabilities add up
        gain = F.softplus(odds) if any_click else odds.sigmoid() * evaluator.worth(position)
        gain = gain.view(rows, beams, count)
        # What is taken comes after everything that is free, and is worth nothing where nothing is free.
        grown = value.unsqueeze(-1) + gain.where(free, TAKEN * free.any(-1, keepdim=True))
        value, best = grown.flatten(1).topk(min(width, beams * count), dim=1)
        parent, item = best // count, best % count  # [B, W]
        slates = torch.cat([_of(slates, parent), item.unsqueeze(-1)], dim=-1)
        free = _of(free.expand(-1, beams, -1), parent).scatter(2, item.unsqueeze(-1), False)
        rows_of = (parent + beams * torch.arange(rows, device=mask.device).unsqueeze(1)).flatten()
        behind = ReadSoFar(so_far.hidden[rows_of], so_far.previous[rows_of], so_far.position)
        so_far = evaluator.read(behind, _of(candidates, item).flatten(0, 1))
    full = torch.arange(slates.shape[-1], device=mask.device) < mask.sum(1, keepdim=True)
    return slates[:, 0].masked_fill(~full, NO_ITEM)


def search_teachers(config: RunConfig, evaluator: ClickModel, train: list[Example]) -> list[Example]:
    """The lists, with what a beam search finds best under the evaluator in the place of what was shown."""
    evaluator.eval()
    settings, length = config.imitation, config.policy.slate_length

    def searched(rows: list[int]) -> list[NDArray[np.int64]]:
        batch = to_batch([train[row] for row in rows])
        candidates = evaluator.encode(batch.inputs)
        found = best_slates(evaluator, candidates, batch.mask, length, settings.beams)
        return [slate[slate != NO_ITEM].numpy() for slate in found.cpu()]

    cut = batch_indices(train, settings.batch, candidates=settings.batch_candidates)
    slates = chain.from_iterable(spread(cut, searched, "beam search"))
    return [example._replace(shown=slate) for example, slate in zip(train, slates, strict=True)]


def _of(tensor: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (`[B, W]`) of `[B, X, Y]`. `[B, W, Y]`."""
    return tensor.gather(1, index.unsqueeze(-1).expand(-1, -1, tensor.shape[-1]))
