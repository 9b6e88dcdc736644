"""The weights of an evaluator, folded for native evaluation by `engine.native.evaluator`.

Folded are what is the same for a candidate wherever it stands, side by side in one product, the GRU's biases
that are only ever added to each other, and the embeddings of places into what they are multiplied with. Of
an ensemble each member has its own, by number. Legend: D width, C columns known of a candidate.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export.encode_weights import as_arrays, candidate_weights
from model.evaluator import ClickModel, Evaluator


@torch.no_grad()
def evaluate_weights(evaluator: ClickModel) -> dict[str, NDArray[Any]] | None:
    """Arrays by `member.name`, or None where native evaluation does not know the evaluator."""
    if evaluator.config.width % 4:
        return None
    weights: dict[str, NDArray[Any]] = {"discounted": np.array(evaluator.config.reward == "dcg")}
    for number, network in enumerate(evaluator.networks):
        encoding = candidate_weights(network.encoder)
        if encoding is None or network.blind:
            return None
        weights |= {f"{number}.{name}": array for name, array in (encoding | _reading(network)).items()}
    return weights


def _reading(network: Evaluator) -> dict[str, NDArray[np.float32]]:
    reader: Any = network.reader  # whose weights have no types
    width = network.config.width
    click, score = network.click[0], network.click[3]
    assert isinstance(click, nn.Linear)
    assert isinstance(score, nn.Linear)
    own, hidden, with_past, with_previous, place = click.weight.T.split(width)
    reads = reader.bias_ih_l0.clone()
    reads[: 2 * width] += reader.bias_hh_l0[: 2 * width]  # the new state's is multiplied by the reset first
    known = [
        (reader.weight_ih_l0.T, reads),  # [D, 3 D]: what the GRU reads
        (network.item.weight.T, network.item.bias),  # [D, 2 D]: with the past, with the one before
        (network.neighbour.weight.T, network.neighbour.bias),  # [D, D]: as the one before
        (own, click.bias),  # [D, D]: by itself
    ]
    return as_arrays(
        {
            "known_weights": torch.cat([weights for weights, _ in known], dim=1),  # [D, 7 D]
            "known_bias": torch.cat([bias for _, bias in known]),
            "state_weights": reader.weight_hh_l0.T,  # [D, 3 D]
            "state_bias": reader.bias_hh_l0[2 * width :],
            "past_weights": torch.cat([network.past.weight.T, hidden], dim=1),  # [D, 2 D]
            "past_bias": network.past.bias,
            "first_neighbour": network.neighbour.bias,  # where nothing stands before
            "seen_weights": torch.cat([with_past, with_previous]),  # [2 D, D]
            "place_vectors": network.position.weight @ place,  # [longest, D]
            "score_weights": score.weight[0],
            "score_bias": score.bias,
        }
    )
