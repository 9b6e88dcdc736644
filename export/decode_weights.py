"""The weights of a policy's micro-step, folded for native decoding by `engine.native.runner`.

Folded are: the biases that are only ever added to each other, the attention's scale into its query, the
reasoner's step embeddings into the bias they are added to, and its residual scale into what it multiplies.
Whole-rollout parity guards all of it.
"""

import math

import numpy as np
import torch
from torch import Tensor

from engine.native.kernel import DecodeWeights
from model.decoders.gru import GRUDecoder
from model.policy import Policy
from model.reasoning import DeepReasoner


@torch.no_grad()
def decode_weights(policy: Policy) -> DecodeWeights | None:
    """None where native decoding does not know the decoder or the reasoner."""
    decoder, reasoner, width = policy.decoder, policy.reasoner, policy.config.width
    thinks = policy.config.reasoner.budget > 0
    known = isinstance(decoder, GRUDecoder) and (isinstance(reasoner, DeepReasoner) or not thinks)
    if not known or width % 4:
        return None
    cell = decoder.cell  # type: ignore[attr-defined]
    token_bias = cell.bias_ih.clone()
    token_bias[: 2 * width] += cell.bias_hh[: 2 * width]  # the new state's is multiplied by the reset first
    weights = {
        "token_weights": cell.weight_ih.T,
        "state_weights": cell.weight_hh.T,
        "token_bias": token_bias,
        "state_bias": cell.bias_hh[2 * width :],
    }
    if thinks:
        assert isinstance(reasoner, DeepReasoner)
        weights |= _reasoner_weights(reasoner, width)
    else:
        nothing = torch.zeros(0, 2 * width)
        weights |= dict.fromkeys(("query_weights", "mix_weights", "write_weights"), nothing)
        weights |= {"query_bias": nothing[:, 0], "write_bias": nothing[:, 0], "mix_bias": torch.zeros(1, 1)}
    return DecodeWeights(
        **{name: np.ascontiguousarray(tensor.numpy(), np.float32) for name, tensor in weights.items()}
    )


def _reasoner_weights(reasoner: DeepReasoner, width: int) -> dict[str, Tensor]:
    scale = math.sqrt(width / reasoner.HEADS)
    return {
        "query_weights": reasoner.query.weight.T / scale,
        "query_bias": reasoner.query.bias / scale,
        "mix_weights": reasoner.mix.weight.T,
        "mix_bias": reasoner.mix.bias + reasoner.step_embedding.weight,
        "write_weights": reasoner.write.weight.T * reasoner.residual_scale,
        "write_bias": reasoner.write.bias * reasoner.residual_scale,
    }
