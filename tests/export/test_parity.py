"""Parity: what it compares reaches every corner, and it notices what differs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.arrays import Arrays
from bundle.contract import LOGITS
from bundle.features.assembly import collate
from engine.generation import Controls, stack_controls
from engine.graphs import StepRunner
from engine.loaded_model import LoadedModel
from engine.runner import Runner
from engine.settings import SessionSettings
from export import parity
from export.parity import ParityError, TorchRunner, compare, random_requests
from model.training.checkpoint import load_policy


def test_random_requests_reach_every_corner(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    requests = random_requests(model.features, model.manifest, 200)
    sizes = {len(arrays["candidate_numeric"]) for arrays, _ in requests}
    assert min(sizes) == 1
    assert max(sizes) == 100
    slates = [model.generate([arrays], [control])[0] for arrays, control in requests]
    assert {slate.stop for slate in slates} == {"entropy", "budget", "deadline"}
    assert {p.reasoning_tokens for slate in slates for p in slate.positions} >= {0, 1, 2, 3, 4}
    assert {control.seed is None for _, control in requests} == {True, False}


def test_parity_notices_other_weights(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    policy = load_policy(bundle, model.features)
    with torch.no_grad():
        policy.reasoner.write.bias += 0.5  # type: ignore[attr-defined]
    requests = random_requests(model.features, model.manifest, 60)
    result = compare(TorchRunner(policy), model.runner, requests)
    assert result.identical < result.lists
    with pytest.raises(ParityError, match=f"{result.identical} of 60"):
        result.check("slate graph")


def test_parity_counts_logits_only_up_to_where_lists_part(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    policy = load_policy(bundle, model.features)
    with torch.no_grad():
        policy.encoder.pointer_bias.weight *= 1.1
    reference = TorchRunner(policy)
    runner = StepRunner(bundle, model.manifest, SessionSettings(), inspect=(LOGITS.name,))
    requests = random_requests(model.features, model.manifest, 40)
    result = compare(reference, runner, requests)
    assert 0 < result.identical < 40
    gaps = [logit_gaps(reference, runner, *request) for request in requests]
    assert result.difference == pytest.approx(max(until for until, _ in gaps), abs=1e-4)
    for (until, _), request in zip(gaps, requests, strict=True):
        assert compare(reference, runner, [request]).difference == pytest.approx(until, abs=1e-4)
    assert max(beyond for _, beyond in gaps) > result.difference + 0.1


def logit_gaps(reference: Runner, runner: Runner, arrays: Arrays, control: Controls) -> tuple[float, float]:
    """Largest difference between two runners' logits of a candidate that is left, in the micro-steps of one
    request up to the one where its lists part, and in those after it."""
    candidates = len(arrays["candidate_numeric"])
    inputs, controls = collate([arrays]), stack_controls([control], [candidates])
    first, second = reference.run(inputs, controls), runner.run(inputs, controls)
    left, until, beyond, parted = set(range(candidates)), 0.0, 0.0, False
    for step in range(min(len(first["chosen"]), len(second["chosen"]))):
        chosen = {int(record["chosen"][step, 0]) for record in (first, second)}
        reasoned = {bool(record["reasoned"][step, 0]) for record in (first, second)}
        logits = np.abs(first["logits"][step, 0] - second["logits"][step, 0])
        gap = max((float(logits[candidate]) for candidate in left), default=0.0)
        if parted:
            beyond = max(beyond, gap)
        else:
            until = max(until, gap)
        parted |= len(chosen) > 1 or len(reasoned) > 1
        left -= chosen
    return until, beyond


def test_selectable_follows_the_slate_until_it_is_full() -> None:
    chosen = np.array([[1, 0], [-1, 1], [0, -1]])
    left = parity._selectable(chosen, np.ones((2, 3), bool), np.array([2, 2]))
    assert left[:, 0].tolist() == [[True, True, True], [True, False, True], [True, False, True]]
    assert left[:, 1].tolist() == [[True, True, True], [False, True, True], [False, False, False]]
