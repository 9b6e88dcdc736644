"""The policy: encode once, then write a slate one micro-step at a time.

One definition for training, evaluation and export. `micro_step` is what the step graph holds;
`rollout.py` and the training losses call the same parts position by position.

Legend: B requests, N candidates, P noise positions, D width.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bundle.contract import COUNTERS, NO_ITEM, StepControls, StepRecord
from model.config import PolicyConfig
from model.decoders.gru import GRUDecoder
from model.decoders.lstm import LSTMDecoder
from model.decoders.protocol import Decoder, DecoderState
from model.decoders.transformer import TransformerDecoder
from model.encoder import Encoder, FeatureSizes, Memory
from model.reasoning import (
    REASONERS,
    Moment,
    Reasoner,
    at_most,
    entropy_nats,
    log_probabilities,
    uncertainty,
)

DECODERS: dict[str, Callable[[int], Decoder]] = {
    "gru": GRUDecoder,
    "lstm": LSTMDecoder,
    "transformer": TransformerDecoder,
}
"""Decoders by the name a configuration gives them, called with the width; add your own."""


class StepState(NamedTuple):
    """State between micro-steps. The counters are those of `bundle.contract.COUNTERS`."""

    decoder: DecoderState
    readout: Tensor  # [B, D]
    selectable: Tensor  # [B, N] bool, True = may still be chosen
    position: Tensor  # [B] int64
    tokens_here: Tensor  # [B] int64
    micro_steps: Tensor  # [B] int64

    def flatten(self) -> tuple[Tensor, ...]:
        return (*self.decoder, *self[1:])

    @classmethod
    def unflatten(cls, tensors: tuple[Tensor, ...]) -> "StepState":
        tail = 1 + len(COUNTERS)
        return cls(tuple(tensors[:-tail]), *tensors[-tail:])

    def where(self, rows: Tensor, other: "StepState") -> "StepState":
        """This state in the rows that are True (`[B] bool`), the other state elsewhere."""
        pairs = zip(self.flatten(), other.flatten(), strict=True)
        return StepState.unflatten(tuple(_select(rows, mine, theirs) for mine, theirs in pairs))


class Policy(nn.Module):
    """Encoder, decoder and reasoner.

    Raises:
        ValueError: the configuration names a decoder that is not in `DECODERS`, or wants a base score that
            the features do not have.
    """

    def __init__(self, config: PolicyConfig, sizes: FeatureSizes) -> None:
        super().__init__()
        if config.decoder not in DECODERS:
            raise ValueError(f"policy.decoder: {config.decoder!r} is not one of {', '.join(DECODERS)}")
        self.config, self.sizes = config, sizes
        self.reasoner: Reasoner = REASONERS[config.reasoner.kind](config.width, config.reasoner)
        self.encoder = Encoder(
            sizes, config.width, self.reasoner.memory_blocks, config.encoder, config.base_score
        )
        self.decoder: Decoder = DECODERS[config.decoder](config.width)

    def encode(self, inputs: dict[str, Tensor]) -> Memory:
        """Inputs as in `bundle.contract.ENCODER_INPUTS`."""
        return self.encoder(**inputs)

    def begin(self, memory: Memory, mask: Tensor) -> StepState:
        """State before the first micro-step. `mask` is `[B, N] bool, True = a real candidate`."""
        decoder = self.decoder.init_state(memory, mask)
        zero = torch.zeros(mask.shape[0], dtype=torch.int64, device=mask.device)
        return StepState(decoder, decoder[0], mask, zero, zero, zero)

    def reason(self, state: StepState, logits: Tensor, memory: Memory, temperature: Tensor) -> StepState:
        """Spend one reasoning token in every row. `temperature` is `[B, 1]`."""
        weights = log_probabilities(logits, state.selectable, temperature).exp()
        now = Moment(state.readout, state.decoder, weights, state.selectable, state.tokens_here)
        readout, decoder = self.reasoner(now, memory, self.decoder)
        return state._replace(
            decoder=decoder,
            readout=readout,
            tokens_here=state.tokens_here + 1,
            micro_steps=state.micro_steps + 1,
        )

    def commit(self, state: StepState, chosen: Tensor, memory: Memory) -> StepState:
        """Emit candidate `chosen` (`[B] int64`) in every row."""
        index = chosen.view(-1, 1, 1).expand(-1, 1, memory.candidates.shape[-1])
        decoder = self.decoder.step(memory.candidates.gather(1, index).squeeze(1), state.decoder)
        taken = torch.arange(state.selectable.shape[1], device=chosen.device) == chosen.unsqueeze(1)
        return StepState(
            decoder=decoder,
            readout=decoder[0],
            selectable=state.selectable & ~taken,
            position=state.position + 1,
            tokens_here=torch.zeros_like(state.tokens_here),
            micro_steps=state.micro_steps + 1,
        )

    def micro_step(
        self, state: StepState, controls: StepControls, memory: Memory
    ) -> tuple[StepState, StepRecord, Tensor]:
        """One reasoning token or one item in every row whose slate is not full yet.

        The gate is per row: reason while the uncertainty is above the threshold, the position has tokens
        left, and the rest of the slate still fits in the micro-step budget.

        Returns:
            The present state, the record, and the logits `[B, N]` that decided, unmasked.
        """
        logits = self.decoder.logits(state.readout, memory)
        log_p = log_probabilities(logits, state.selectable)
        entropy = entropy_nats(log_p)
        doubt = uncertainty(log_p, entropy, state.selectable, self.config.reasoner.gate)
        writing = state.position < controls.slate_length
        spare = controls.micro_step_budget - state.micro_steps - (controls.slate_length - state.position)
        reasons = (
            writing
            & (doubt > controls.entropy_threshold)
            & (state.tokens_here < controls.reasoning_budget)
            & (spare > 0)
        )
        thinks = self.config.reasoner.budget > 0
        if not thinks:  # trained without reasoning it has no step to think with, whatever a request allows
            reasons = torch.zeros_like(reasons)
        positions = controls.noise.shape[1]
        drawn = at_most(state.position, positions - 1).view(-1, 1, 1)
        noise = controls.noise.gather(1, drawn.expand(-1, 1, controls.noise.shape[2])).squeeze(1)
        log_q = log_probabilities(logits, state.selectable, controls.selection_temperature.unsqueeze(1))
        best = (log_q + noise).argmax(-1)
        item = best.unsqueeze(1)

        # A row whose slate is full goes on committing, ignored: nobody reads it, its position only grows.
        present = self.commit(state, best, memory)
        if thinks:
            thought = self.reason(state, logits, memory, controls.reasoning_temperature.unsqueeze(1))
            present = thought.where(reasons, present)
        record = StepRecord(
            chosen=torch.where(writing & ~reasons, best, NO_ITEM),
            reasoned=reasons,
            entropy=entropy,
            uncertainty=doubt,
            probability=log_p.gather(1, item).squeeze(1).exp(),
            propensity=log_q.gather(1, item).squeeze(1).exp(),
            greedy=best == log_q.argmax(-1),
        )
        return present, record, logits


def _select(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    rows = rows.view(-1, *([1] * (new.dim() - 1)))
    if new.dtype == torch.bool:  # ONNX Runtime has no Where for booleans
        return (rows & new) | (~rows & old)
    return torch.where(rows, new, old)
