"""PyTorch against the engine where it looks ahead: what lists are worth, and the lists that come of it.

Values of random lists are compared, and whole lists with those of `model.training.lookahead`, by which the
policy was taught. Legend: R lists, L places.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.arrays import Arrays
from bundle.contract import NO_ITEM
from bundle.features.assembly import collate
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from model.evaluator import ClickModel
from model.policy import Policy
from model.progress import progress
from model.training.lookahead import look_ahead
from model.training.rollout import threshold_gate

ALTERNATIVES = 2
SAME_VALUE = 1e-5
"""Lists that differ, but not by more than this to the evaluator, are the same choice rounded otherwise."""


def compare_values(evaluator: ClickModel, model: LoadedModel, requests: Sequence[Arrays]) -> float:
    """The largest difference of a random list's value, one list a request."""
    assert model.lookahead is not None
    rng, exported = np.random.default_rng(0), model.lookahead.evaluator
    largest = 0.0
    for request in requests:
        inputs, candidates = collate([request]), len(request["candidate_numeric"])
        listed = rng.permutation(candidates)[: rng.integers(1, 2 * model.manifest.slate_length)]
        slates = np.concatenate([listed, [NO_ITEM]])[None].astype(np.int64)
        found = exported.values(exported.encode(inputs), np.zeros(1, np.int64), slates)
        largest = max(largest, float(np.abs(found - _values(evaluator, request, slates)).max()))
    return largest


def count_identical(
    policy: Policy, evaluator: ClickModel, model: LoadedModel, requests: Sequence[Arrays]
) -> int:
    """Lists that are PyTorch's, or worth the same to it, looking ahead with the default controls."""
    identical = 0
    for request in progress(requests, "looking ahead"):
        candidates = len(request["candidate_numeric"])
        length = min(policy.config.slate_length, candidates)
        controls = replace(Controls.default(model.manifest, length), lookahead=ALTERNATIVES)
        (slate,) = model.generate([request], [controls])
        found = np.array([position.index for position in slate.positions], np.int64)
        threshold = float(np.float32(controls.entropy_threshold))
        (expected,) = look_ahead(
            policy, evaluator, _tensors(request), threshold_gate(threshold), 1 + ALTERNATIVES, threshold
        ).slates.slates()
        values = _values(evaluator, request, np.stack([found, expected]))
        identical += bool((found == expected).all() or abs(values[0] - values[1]) < SAME_VALUE)
    return identical


@torch.no_grad()
def _values(evaluator: ClickModel, request: Arrays, slates: NDArray[np.int64]) -> NDArray[np.float32]:
    encoded = evaluator.encode(_tensors(request)).expand(len(slates), -1, -1)
    return evaluator.reward(encoded, torch.from_numpy(slates)).numpy()


def _tensors(request: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in collate([request]).items()}
