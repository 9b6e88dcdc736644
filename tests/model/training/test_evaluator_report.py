"""What is known of a fitted evaluator, and when it is refused."""

import numpy as np
import pytest
import torch

from model.evaluator import Evaluator
from model.sizes import feature_sizes
from model.training.config import EvaluatorConfig
from model.training.evaluator_report import (
    EvaluatorRejectedError,
    EvaluatorReport,
    calibration_error,
    report,
)


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.1, 0.1, 0.9, 0.9])
    assert calibration_error(probability, np.array([0, 0, 1, 1.0]), bins=2) == pytest.approx(0.1)
    assert calibration_error(probability, np.array([1, 0, 1, 0.0]), bins=2) == pytest.approx(0.4)


GOOD = EvaluatorReport(
    log_loss=0.4,
    base_log_loss=0.5,
    calibration_error=0.01,
    ndcg=0.6,
    initial_ndcg=0.4,
    order_gain=0.01,
    order_gain_error=0.001,
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ndcg": 0.3}, "NDCG"),
        ({"calibration_error": 0.2}, "calibration error 0.200"),
        ({"order_gain": -0.001}, "two orders"),
    ],
)
def test_an_evaluator_that_fails_a_check_stops_training(change: dict[str, float], message: str) -> None:
    GOOD.check(0.05)
    with pytest.raises(EvaluatorRejectedError, match=message):
        GOOD.model_copy(update=change).check(0.05)


def test_an_untrained_evaluator_is_reported_as_one(data) -> None:
    _, held_out, _, features = data
    torch.manual_seed(0)
    evaluator = Evaluator(EvaluatorConfig(width=16), feature_sizes(features.serving)).eval()
    found = report(evaluator, held_out, seed=0)
    assert found.log_loss > found.base_log_loss
    with pytest.raises(EvaluatorRejectedError):
        found.check(0.05)
