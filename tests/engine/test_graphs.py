"""The graphs' runners against each other, and the clock between micro-steps."""

from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from engine.graphs import StepRunner
from engine.loaded_model import LoadedModel
from engine.settings import SessionSettings
from export.parity import random_requests


def test_both_runners_write_the_same_slates_in_any_batch(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    stepwise = LoadedModel(
        model.manifest, model.features, StepRunner(bundle, model.manifest, SessionSettings())
    )
    requests = random_requests(model.features, model.manifest, 24, seed=5)
    arrays, controls = [row[0] for row in requests], [row[1] for row in requests]
    together = model.generate(arrays, controls)
    for slates in (
        stepwise.generate(arrays, controls),
        [model.generate([one], [control])[0] for one, control in requests],
    ):
        for slate, expected in zip(slates, together, strict=True):
            assert [p.index for p in slate.positions] == [p.index for p in expected.positions]
            assert slate.stop == expected.stop
            for mine, theirs in zip(slate.positions, expected.positions, strict=True):
                assert mine.reasoning_tokens == theirs.reasoning_tokens
                assert mine.probability == pytest.approx(theirs.probability, abs=1e-5)


def test_a_deadline_between_micro_steps_sheds_reasoning_and_keeps_the_list(bundle: Path) -> None:
    """Only the host-driven path sees the clock; a row that is not late reasons on beside one that is."""
    model = LoadedModel.open(bundle, SessionSettings(decoding="step"))
    arrays, control = random_requests(model.features, model.manifest, 1, seed=3)[0]
    free = replace(control, entropy_threshold=-1.0, reasoning_budget=2, seed=None, micro_step_budget=10_000)
    late = replace(free, deadline=monotonic())
    patient, hurried = model.generate([arrays, arrays], [free, late])
    assert patient.reasoning_tokens == 2 * free.slate_length
    assert (hurried.reasoning_tokens, hurried.stop) == (0, "deadline")
    (none,) = model.generate([arrays], [replace(free, micro_step_budget=0)])
    assert [p.index for p in hurried.positions] == [p.index for p in none.positions]
