"""The evaluator as two ONNX graphs, for lookahead at serving time.

- evaluator encoder: features to what every list of the request is judged by, once a request;
- evaluator: lists, in order, to what each is worth.

Legend: B lists, N candidates, L places, D width.
"""

import copy

import torch
from onnx import ModelProto
from torch import Tensor, nn

from bundle.contract import ENCODER_INPUTS, EVALUATED, SLATES, VALUE
from export.folded_encoder import FoldedEncoder
from export.tracing import feature_axes, sized, traced
from model.encoder import FeatureSizes
from model.evaluator import ClickModel


class EvaluatorEncoderGraph(nn.Module):
    """`ENCODER_INPUTS` in, `EVALUATED` out."""

    def __init__(self, evaluator: ClickModel) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(FoldedEncoder(network.encoder) for network in evaluator.networks)

    def forward(self, *inputs: Tensor) -> Tensor:
        named = {spec.name: tensor for spec, tensor in zip(ENCODER_INPUTS, inputs, strict=True)}
        return torch.cat([encoder(**named).candidates for encoder in self.encoders], dim=-1)


class EvaluatorGraph(nn.Module):
    """`EVALUATED` and `SLATES` in, `VALUE` out."""

    def __init__(self, evaluator: ClickModel) -> None:
        super().__init__()
        self.evaluator = copy.deepcopy(evaluator)
        for network in self.evaluator.networks:
            network.reader = OnnxGRU(network.reader)  # type: ignore[assignment]

    def forward(self, *inputs: Tensor) -> Tensor:
        evaluated, slates = inputs
        return self.evaluator.reward(evaluated, slates)


class OnnxGRU(nn.Module):
    """In the place of a `torch.nn.GRU` of one layer: tracing that one would fix the number of places."""

    input_weights: Tensor  # [1, 3 D, D]
    state_weights: Tensor  # [1, 3 D, D]
    biases: Tensor  # [1, 6 D]

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.width = gru.hidden_size
        input_weights, state_weights, *biases = (
            self._reordered(getattr(gru, name).detach())
            for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        )
        self.register_buffer("input_weights", input_weights[None])
        self.register_buffer("state_weights", state_weights[None])
        self.register_buffer("biases", torch.cat(biases)[None])

    def forward(self, items: Tensor) -> tuple[Tensor, None]:
        """`[B, L, D]` -> the hidden state after each, `[B, L, D]`."""
        read = torch.onnx.ops.symbolic(
            "GRU",
            (items.transpose(0, 1), self.input_weights, self.state_weights, self.biases),
            attrs={"hidden_size": self.width, "linear_before_reset": 1},
            dtype=items.dtype,
            shape=(items.shape[1], 1, items.shape[0], self.width),
            version=14,
        )
        return read.squeeze(1).transpose(0, 1), None

    def _reordered(self, weights: Tensor) -> Tensor:
        """From reset, update, new to ONNX's update, reset, new."""
        reset, update, new = weights.split(self.width)
        return torch.cat([update, reset, new])


def export_evaluator_encoder(evaluator: ClickModel, sizes: FeatureSizes) -> ModelProto:
    """The evaluator's encoder graph."""
    inputs = sized(ENCODER_INPUTS, feature_axes(sizes))
    return traced(EvaluatorEncoderGraph(evaluator), inputs, [EVALUATED.name])


def export_evaluator(evaluator: ClickModel) -> ModelProto:
    """The evaluator graph."""
    axes = {"J": evaluator.config.width * len(evaluator.networks)}
    return traced(EvaluatorGraph(evaluator), sized((EVALUATED, SLATES), axes), [VALUE.name])
