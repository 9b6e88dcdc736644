"""The evaluator: what it reads of a list, and what a list is worth."""

import torch

from bundle.contract import NO_ITEM
from model.evaluator import Evaluator, EvaluatorEnsemble
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


@torch.no_grad()
def test_an_ensemble_is_the_mean_of_its_members(data) -> None:
    training, _, _, features = data
    torch.manual_seed(0)
    sizes = feature_sizes(features.serving)
    members = [Evaluator(EvaluatorConfig(width=16), sizes).eval() for _ in range(3)]
    for member in members:  # sure of themselves, and not of one mind
        member.click[-1].weight.mul_(40.0)
    ensemble = EvaluatorEnsemble(members).eval()
    batch = to_batch(training[:3])
    slate = torch.tensor([[3, 1, 2, 7], [0, 1, NO_ITEM, NO_ITEM], [5, 4, 3, 0]])
    own = [member.encode(batch.inputs) for member in members]
    candidates = ensemble.encode(batch.inputs)
    rewards = torch.stack([m.reward(c, slate) for m, c in zip(members, own, strict=True)])
    torch.testing.assert_close(ensemble.reward(candidates, slate), rewards.mean(0))
    assert (rewards.std(0) > 0.01).all()

    so_far, read = ensemble.start(candidates), [m.start(c) for m, c in zip(members, own, strict=True)]
    rows = torch.arange(3)
    for position in range(3):
        item = slate[:, position].clamp(min=0)
        clicks = torch.stack(
            [m.next_logits(c, r).sigmoid() for m, c, r in zip(members, own, read, strict=True)]
        )
        torch.testing.assert_close(ensemble.next_logits(candidates, so_far).sigmoid(), clicks.mean(0))
        so_far = ensemble.read(so_far, candidates[rows, item])
        read = [m.read(r, c[rows, item]) for m, r, c in zip(members, read, own, strict=True)]
