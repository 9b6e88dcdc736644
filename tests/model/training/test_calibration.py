"""The gate's threshold, from held-out lists."""

import numpy as np
import pytest
import torch
from small_run import fresh_policy

from model.training.calibration import calibrate
from model.training.decoding import decode
from model.training.rollout import NEVER, threshold_gate


def test_the_threshold_is_the_quantile_of_what_is_met(data) -> None:
    _, held_out, config, features = data
    policy = fresh_policy(config, features)
    for quantile in (0.3, 0.8):
        gate = calibrate(policy, held_out, quantile)
        assert gate.trigger_rate == pytest.approx(1 - quantile, abs=0.05)
        slates = decode(policy, held_out, threshold_gate(gate.threshold))
        tokens = torch.cat([rollout.tokens for rollout in slates]).sum(1).tolist()
        assert gate.tokens_per_list == pytest.approx(np.mean(tokens), abs=1e-4)
    assert all(not rollout.tokens.any() for rollout in decode(policy, held_out, threshold_gate(NEVER)))
