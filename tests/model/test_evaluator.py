"""The evaluator: what it reads of a list, and what a list is worth."""

import torch

from bundle.contract import NO_ITEM
from model.evaluator import Evaluator
from model.sizes import feature_sizes
from model.training.config import EvaluatorConfig
from model.training.examples import to_batch


@torch.no_grad()
def test_the_evaluator_knows_order_and_ignores_padding(data) -> None:
    training, _, _, features = data
    torch.manual_seed(0)
    evaluator = Evaluator(EvaluatorConfig(width=16), feature_sizes(features.serving)).eval()
    batch = to_batch(training[:3])
    candidates = evaluator.encode(batch.inputs)
    slate = torch.tensor([[3, 1, 2], [0, 1, 2], [5, 4, 3]])
    padded = torch.cat([slate, torch.full((3, 2), NO_ITEM)], dim=1)
    torch.testing.assert_close(
        evaluator.logits(candidates, padded)[:, :3], evaluator.logits(candidates, slate)
    )
    torch.testing.assert_close(evaluator.reward(candidates, padded), evaluator.reward(candidates, slate))
    assert not torch.allclose(
        evaluator.reward(candidates, slate), evaluator.reward(candidates, slate.flip(1)), atol=1e-4
    )
    probabilities = evaluator.logits(candidates, slate).sigmoid()
    discount = 1 / torch.log2(torch.tensor([2.0, 3.0, 4.0]))
    torch.testing.assert_close(evaluator.reward(candidates, slate), (probabilities * discount).sum(1))


@torch.no_grad()
def test_the_evaluator_takes_lists_longer_than_its_positions(data) -> None:
    training, _, _, features = data
    evaluator = Evaluator(EvaluatorConfig(width=16, longest=4), feature_sizes(features.serving)).eval()
    batch = to_batch(training[:2])
    logits = evaluator.logits(evaluator.encode(batch.inputs), batch.shown)
    assert logits.shape == batch.shown.shape == (2, 10)
