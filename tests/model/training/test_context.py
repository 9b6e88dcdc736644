"""What order and neighbours are worth: something in a world where they matter, nothing where they do not."""

import sys
from pathlib import Path

import pytest
import torch
from small_run import small_config

from model.data import __main__ as command
from model.evaluator import Evaluator
from model.sizes import feature_sizes
from model.training.config import EvaluatorConfig
from model.training.context import compared, context_of_log
from model.training.examples import to_batch


def test_neighbours_are_worth_something_where_they_matter() -> None:
    found = context_of_log(small_config())
    assert found.low > 0
    assert "may gain from reasoning" in str(found)


def test_the_blind_one_sees_an_item_the_same_wherever_it_stands(data) -> None:
    _, held_out, _, features = data
    torch.manual_seed(0)
    sizes = feature_sizes(features.serving)
    batch = to_batch(held_out[:8])
    back = batch.shown.flip(1)
    for blind in (False, True):
        evaluator = Evaluator(EvaluatorConfig(width=16), sizes, blind).eval()
        candidates = evaluator.encode(batch.inputs)
        same = torch.allclose(
            evaluator.logits(candidates, batch.shown), evaluator.logits(candidates, back).flip(1), atol=1e-6
        )
        assert same == blind


def test_two_that_say_the_same_differ_by_nothing(data) -> None:
    _, held_out, _, features = data
    evaluator = Evaluator(EvaluatorConfig(width=16), feature_sizes(features.serving)).eval()
    report = compared(evaluator, held_out, evaluator, held_out, [str(n % 7) for n in range(len(held_out))])
    assert (report.gain, report.low, report.high) == (0.0, 0.0, 0.0)
    assert report.log_loss == report.blind_log_loss
    assert "reasoning is advised off" in str(report)
    batch = to_batch(held_out)
    with torch.no_grad():
        loss = evaluator.loss(evaluator.encode(batch.inputs), batch.shown, batch.clicks(batch.shown))
    assert report.log_loss == pytest.approx(float(loss), rel=1e-5)


def test_a_log_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = Path(__file__).parents[3] / "configs" / "ranklens.toml"
    asked = ["model.data", "context", str(tmp_path / "no.jsonl"), "--config", str(config)]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit, match=r"no\.jsonl: no such log"):
        command.main()
