"""The evaluator: a list-wise click model, the reward of reinforcement learning and imitation.

Given the user and a list in order, one click probability per position (sigmoid, not a softmax across
positions), so that the same item is worth more or less by where it stands and what stands before it. A
list is read from the top down, as people read it: a position's probability does not depend on later
ones, which also lets a beam search score every possible next item in one pass.

The products of an item with its predecessor and with all that was read are what pairwise effects need;
attention over the list hardly found them (docs/decisions/evaluator-reads-down.md has the figures).
Shares no weights with the policy. Legend: B lists, N candidates, L positions, D width, E members.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.contract import NO_ITEM
from model.config import EncoderConfig, EvaluatorNetworkConfig
from model.encoder import Encoder, FeatureSizes


class ReadSoFar(NamedTuple):
    """What the evaluator remembers of a list's beginning."""

    hidden: Tensor  # [B, D]
    previous: Tensor  # [B, D], the last item read
    position: int


class ClickModel(nn.Module):
    """An evaluator as its users know it, whether one network or the mean of several."""

    def __init__(self, config: EvaluatorNetworkConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def networks(self) -> list["Evaluator"]:
        """Whose mean it is."""
        raise NotImplementedError

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Candidates of a request, before any list is made of them. `[B, N, D]`."""
        raise NotImplementedError

    def logits(self, candidates: Tensor, slate: Tensor) -> Tensor:
        """Click log odds at each position.

        Args:
            candidates: `[B, N, D]`, from `encode`.
            slate: `[B, L] int64`, candidate indices in order, NO_ITEM past the end of a list.

        Returns:
            `[B, L]`; means nothing where the slate is NO_ITEM.
        """
        raise NotImplementedError

    def start(self, candidates: Tensor) -> ReadSoFar:
        """Nothing read yet."""
        nothing = candidates.new_zeros(len(candidates), candidates.shape[-1])
        return ReadSoFar(nothing, nothing, 0)

    def read(self, so_far: ReadSoFar, item: Tensor) -> ReadSoFar:
        """One more item `[B, D]` read."""
        raise NotImplementedError

    def next_logits(self, candidates: Tensor, so_far: ReadSoFar) -> Tensor:
        """Click log odds of every candidate, were it the next item. `[B, N]`."""
        raise NotImplementedError

    def worths(self, places: Tensor) -> Tensor:
        """Reward of a click at each place `[L] int64`: 1, or the discount of DCG if so configured. `[L]`."""
        return (
            1.0 / torch.log2(places + 2.0) if self.config.reward == "dcg" else torch.ones_like(places) * 1.0
        )

    def worth(self, position: int) -> float:
        """Reward of a click at one place."""
        return float(self.worths(torch.tensor(position)))

    def reward(self, candidates: Tensor, slate: Tensor) -> Tensor:
        """Value of a slate: the expected worth of its clicks. `[B]`."""
        clicks = self.logits(candidates, slate).sigmoid() * (slate != NO_ITEM)
        return clicks @ self.worths(torch.arange(slate.shape[1], device=slate.device))


class Evaluator(ClickModel):
    """Scores lists of any length; positions from `config.longest` on share one embedding.

    One that is `blind` sees neither positions nor what stands before an item: the control that says what
    order and neighbours are worth.
    """

    def __init__(self, config: EvaluatorNetworkConfig, sizes: FeatureSizes, blind: bool = False) -> None:
        super().__init__(config)
        self.blind = blind
        width = config.width
        self.encoder = Encoder(sizes, width, (1, 1), EncoderConfig(dropout=config.dropout))
        self.position = nn.Embedding(config.longest, width)
        nn.init.normal_(self.position.weight, std=0.02)
        self.reader = nn.GRU(width, width, batch_first=True)
        self.item = nn.Linear(width, 2 * width)
        self.past = nn.Linear(width, width)
        self.neighbour = nn.Linear(width, width)
        self.click = nn.Sequential(
            nn.Linear(5 * width, width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(width, 1)
        )

    @property
    def networks(self) -> list["Evaluator"]:
        return [self]

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.encoder(**inputs).candidates

    def logits(self, candidates: Tensor, slate: Tensor) -> Tensor:
        index = slate.clamp(min=0).unsqueeze(-1).expand(-1, -1, candidates.shape[-1])
        items = candidates.gather(1, index)
        read, _ = self.reader(items)
        hidden, previous = (F.pad(x, (0, 0, 1, 0))[:, :-1] for x in (read, items))
        places = torch.arange(slate.shape[1], device=slate.device)
        return self._click(items, hidden, previous, places)

    def read(self, so_far: ReadSoFar, item: Tensor) -> ReadSoFar:
        _, hidden = self.reader(item.unsqueeze(1), so_far.hidden.unsqueeze(0))
        return ReadSoFar(hidden.squeeze(0), item, so_far.position + 1)

    def next_logits(self, candidates: Tensor, so_far: ReadSoFar) -> Tensor:
        hidden, previous = (x.unsqueeze(1).expand_as(candidates) for x in so_far[:2])
        place = torch.full((candidates.shape[1],), so_far.position, device=candidates.device)
        return self._click(candidates, hidden, previous, place)

    def loss(self, candidates: Tensor, slate: Tensor, clicks: Tensor) -> Tensor:
        """Mean log-loss over the positions of the lists. `clicks` is `[B, L] float32`."""
        written = slate != NO_ITEM
        losses = F.binary_cross_entropy_with_logits(self.logits(candidates, slate), clicks, reduction="none")
        return losses[written].mean()

    def _click(self, items: Tensor, hidden: Tensor, previous: Tensor, places: Tensor) -> Tensor:
        """`[B, X, D]` each, `[X] int64` -> `[B, X]`."""
        with_past, with_previous = self.item(items).chunk(2, dim=-1)
        place = self.position(places.clamp(max=self.config.longest - 1)).expand_as(items)
        seen = [items, hidden, with_past * self.past(hidden), with_previous * self.neighbour(previous), place]
        if self.blind:
            seen[1:] = [torch.zeros_like(part) for part in seen[1:]]
        return self.click(torch.cat(seen, dim=-1)).squeeze(-1)


class EvaluatorEnsemble(ClickModel):
    """The mean click probability of several evaluators of the same width.

    One evaluator's errors are its own, and a search finds where it overrates; what several agree on is more
    often true. Candidates and what was read are the members' side by side, `E x D` wide.
    """

    def __init__(self, members: Sequence[Evaluator]) -> None:
        super().__init__(members[0].config)
        self.members = nn.ModuleList(members)

    @property
    def networks(self) -> list[Evaluator]:
        return cast(list[Evaluator], list(self.members))

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        return torch.cat([network.encode(inputs) for network in self.networks], dim=-1)

    def logits(self, candidates: Tensor, slate: Tensor) -> Tensor:
        own = zip(self.networks, self._own(candidates), strict=True)
        return _mean_click([network.logits(items, slate) for network, items in own])

    def read(self, so_far: ReadSoFar, item: Tensor) -> ReadSoFar:
        own = zip(self.networks, self._each(so_far), self._own(item), strict=True)
        read = [network.read(behind, items) for network, behind, items in own]
        hidden = torch.cat([one.hidden for one in read], dim=-1)
        return ReadSoFar(hidden, item, so_far.position + 1)

    def next_logits(self, candidates: Tensor, so_far: ReadSoFar) -> Tensor:
        own = zip(self.networks, self._own(candidates), self._each(so_far), strict=True)
        return _mean_click([network.next_logits(items, behind) for network, items, behind in own])

    def _own(self, side_by_side: Tensor) -> tuple[Tensor, ...]:
        return side_by_side.chunk(len(self.members), dim=-1)

    def _each(self, so_far: ReadSoFar) -> list[ReadSoFar]:
        pairs = zip(self._own(so_far.hidden), self._own(so_far.previous), strict=True)
        # cuDNN reads on from what is contiguous alone.
        return [ReadSoFar(hidden.contiguous(), previous, so_far.position) for hidden, previous in pairs]


def _mean_click(logits: list[Tensor]) -> Tensor:
    """Log odds of the mean probability; stable where the members are sure."""
    odds = torch.stack(logits)
    return F.logsigmoid(odds).logsumexp(0) - F.logsigmoid(-odds).logsumexp(0)


def build_evaluator(config: EvaluatorNetworkConfig, members: int, sizes: FeatureSizes) -> ClickModel:
    """One network, or an ensemble of several; unfitted."""
    networks = [Evaluator(config, sizes) for _ in range(members)]
    return EvaluatorEnsemble(networks) if members > 1 else networks[0]
