"""Beam search against all slates there are."""

import itertools

import torch

from bundle.contract import NO_ITEM
from model.evaluator import Evaluator
from model.sizes import feature_sizes
from model.training.beam import best_slates
from model.training.config import EvaluatorConfig
from model.training.examples import to_batch


def test_beam_search_finds_the_best_slate_when_wide_enough(data) -> None:
    training, _, _, features = data
    for reward in ("clicks", "dcg"):
        torch.manual_seed(0)
        config = EvaluatorConfig(width=16, reward=reward)
        evaluator = Evaluator(config, feature_sizes(features.serving)).eval()
        batch = to_batch(training[:4])
        mask = torch.arange(20) < torch.tensor([[5], [5], [2], [5]])
        with torch.no_grad():
            candidates = evaluator.encode(batch.inputs)
            found = best_slates(evaluator, candidates, mask, 3, 60)
            assert found[2, 2] == NO_ITEM
            for row in (0, 1, 3):
                orders = torch.tensor(list(itertools.permutations(range(5), 3)))
                values = evaluator.reward(candidates[[row]].expand(60, -1, -1), orders)
                assert found[row].tolist() == orders[values.argmax()].tolist()
            likeliest = best_slates(evaluator, candidates, mask, 3, 60, any_click=True)
            for row in (0, 1, 3):
                clicks = evaluator.logits(candidates[[row]].expand(60, -1, -1), orders).sigmoid()
                any_click = 1 - (1 - clicks).prod(1)
                assert likeliest[row].tolist() == orders[any_click.argmax()].tolist()
            narrow = best_slates(evaluator, candidates, mask, 3, 1)
            assert (evaluator.reward(candidates, narrow) <= evaluator.reward(candidates, found) + 1e-5).all()
