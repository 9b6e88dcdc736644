"""Entropy, gate, and the two reasoning steps (EGLR, arXiv 2601.13533).

A reasoning step reads the current selection probabilities, emits no item, and writes a new *readout*, the
vector the pointer scores candidates with. `PaperReasoner` is the paper's token, carried on through the
decoder's own cell. `DeepReasoner` departs from the paper because the plain token only tied with a model
trained without it: it branches, thinks with more than one token, and is dropped once an item is chosen.

Legend: B requests, N candidates, D width, R blocks of E columns of reasoning memory.
"""

import math
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.contract import MASKED_LOGIT
from bundle.manifest import GateKind
from model.config import ReasonerConfig
from model.decoders.protocol import Decoder, DecoderState
from model.encoder import Memory

STEP_EMBEDDINGS = 8
"""Reasoning steps told apart; later ones share the last embedding."""


def log_probabilities(logits: Tensor, selectable: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Log-softmax over the remaining candidates. `[B, N]`, `[B, N] bool` -> `[B, N]`."""
    return torch.log_softmax((logits / temperature).masked_fill(~selectable, MASKED_LOGIT), dim=-1)


def entropy_nats(log_p: Tensor) -> Tensor:
    """H = -sum p log p in nats. `[B, N]` -> `[B]`. A masked candidate has p = 0 and a finite log p."""
    return (log_p.exp() * -log_p).sum(-1)


def uncertainty(log_p: Tensor, entropy: Tensor, selectable: Tensor, gate: GateKind) -> Tensor:
    """What the gate compares with its threshold. `[B, N]`, `[B]`, `[B, N] bool` -> `[B]`.

    `raw` is the paper's entropy in nats. `normalised` divides by log(remaining candidates), because raw
    entropy shrinks as the slate fills and so gates by position rather than by difficulty. `margin` asks
    how close the two best are: 1 - (p_1 - p_2).
    """
    if gate == "raw":
        return entropy
    if gate == "margin":
        best = F.pad(log_p.exp(), (0, 1)).topk(2, dim=-1).values  # padded, in case there is one candidate
        return 1.0 - (best[..., 0] - best[..., 1])
    remaining = selectable.to(entropy.dtype).sum(-1).clamp(min=2.0)
    return entropy / torch.log(remaining)


def at_most(counts: Tensor, most: int) -> Tensor:
    """`[B] int64`, none above it: as `clamp`, which TensorRT has for floats alone."""
    return torch.minimum(counts, torch.full_like(counts, most))


class Moment(NamedTuple):
    """Where the policy stands when it spends a reasoning token."""

    readout: Tensor  # [B, D]
    state: DecoderState
    weights: Tensor  # [B, N], selection probabilities at the reasoning temperature
    selectable: Tensor  # [B, N] bool, True = may still be chosen
    step: Tensor  # [B] int64, reasoning tokens already spent at this position


class Reasoner(Protocol):
    """One reasoning step.

    `memory_blocks` is (R, E), what it wants projected from each candidate; `branches` says that it leaves
    the decoder's state as it is, so that later positions do not depend on earlier gates.
    """

    memory_blocks: tuple[int, int]
    branches: bool

    def __call__(self, now: Moment, memory: Memory, decoder: Decoder) -> tuple[Tensor, DecoderState]:
        """Readout `[B, D]` and decoder state after one reasoning token."""
        ...


def _residual_scale(reasoner: nn.Module, width: int, initial: float) -> nn.Parameter:
    """How far a reasoning step goes, per channel. `[D]`. Weights that call it `gate` still load."""
    reasoner.register_load_state_dict_pre_hook(_read_the_earlier_name)
    return nn.Parameter(torch.full((width,), initial))


def _read_the_earlier_name(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """`residual_scale` was `gate` in checkpoints and bundles written earlier."""
    if f"{prefix}gate" in state:
        state[f"{prefix}residual_scale"] = state.pop(f"{prefix}gate")


class DeepReasoner(nn.Module):
    """Branching step: two-head attention over the remaining candidates, the weighted token, an MLP."""

    HEADS = 2
    branches = True

    def __init__(self, width: int, config: ReasonerConfig) -> None:
        super().__init__()
        self.memory_blocks = (2 * self.HEADS, width // self.HEADS)  # keys, then values
        self.query = nn.Linear(width, width)
        self.mix = nn.Linear(4 * width, 2 * width)
        self.step_embedding = nn.Embedding(STEP_EMBEDDINGS, 2 * width)
        nn.init.normal_(self.step_embedding.weight, std=0.02)
        self.write = nn.Linear(2 * width, width)
        self.residual_scale = _residual_scale(self, width, config.initial_step)

    def forward(self, now: Moment, memory: Memory, decoder: Decoder) -> tuple[Tensor, DecoderState]:
        keys, values = memory.reasoning_memory.split(self.HEADS, dim=1)  # [B, heads, N, D / heads] each
        query = self.query(now.readout).unflatten(-1, (self.HEADS, 1, -1))  # [B, heads, 1, D / heads]
        scores = (query @ keys.transpose(-1, -2)) / math.sqrt(query.shape[-1])  # [B, heads, 1, N]
        scores = scores.masked_fill(~now.selectable[:, None, None, :], MASKED_LOGIT)
        recalled = (scores.softmax(-1) @ values).flatten(1)  # [B, D]
        token = (now.weights.unsqueeze(1) @ memory.candidates).squeeze(1)  # [B, D]
        mixed = self.mix(torch.cat([now.readout, recalled, token, memory.user], dim=-1))
        mixed = mixed + self.step_embedding(at_most(now.step, STEP_EMBEDDINGS - 1))
        return now.readout + self.residual_scale * self.write(torch.relu(mixed)), now.state


class PaperReasoner(nn.Module):
    """The paper's context-aware token r = W_r [sum_c q_c m_c ; u ; e_s], read by the decoder's cell.

    Departs from the paper in starting near identity (h + a (cell(r, h) - h), a learned from
    `initial_step`), because a token at full strength lost 1.5 % against no reasoning in prototypes.
    """

    branches = False

    def __init__(self, width: int, config: ReasonerConfig) -> None:
        super().__init__()
        self.memory_blocks = (1, width)
        self.step_embedding = nn.Embedding(STEP_EMBEDDINGS, width)
        nn.init.normal_(self.step_embedding.weight, std=0.02)
        self.user = nn.Linear(width, width)
        self.residual_scale = _residual_scale(self, width, config.initial_step)

    def forward(self, now: Moment, memory: Memory, decoder: Decoder) -> tuple[Tensor, DecoderState]:
        aggregate = (now.weights.unsqueeze(1) @ memory.reasoning_memory.squeeze(1)).squeeze(1)  # W_r m, once
        token = aggregate + self.user(memory.user)
        token = token + self.step_embedding(at_most(now.step, STEP_EMBEDDINGS - 1))
        read = decoder.step(token, now.state)
        carried = decoder.blend(now.state, read, self.residual_scale)
        return carried[0], carried


class PauseReasoner(nn.Module):
    """A control: the deep step with a learned constant where the candidates were (Goyal et al. 2024,
    arXiv 2310.02226), so that it adds depth and nothing else."""

    branches = True

    def __init__(self, width: int, config: ReasonerConfig) -> None:
        super().__init__()
        self.memory_blocks = (1, 1)
        self.mix = nn.Linear(2 * width, 2 * width)
        self.step_embedding = nn.Embedding(STEP_EMBEDDINGS, 2 * width)
        nn.init.normal_(self.step_embedding.weight, std=0.02)
        self.write = nn.Linear(2 * width, width)
        self.residual_scale = _residual_scale(self, width, config.initial_step)

    def forward(self, now: Moment, memory: Memory, decoder: Decoder) -> tuple[Tensor, DecoderState]:
        mixed = self.mix(torch.cat([now.readout, memory.user], dim=-1))
        mixed = mixed + self.step_embedding(at_most(now.step, STEP_EMBEDDINGS - 1))
        return now.readout + self.residual_scale * self.write(torch.relu(mixed)), now.state


REASONERS: dict[str, type[DeepReasoner] | type[PaperReasoner] | type[PauseReasoner]] = {
    "deep": DeepReasoner,
    "paper": PaperReasoner,
    "pause": PauseReasoner,
}
