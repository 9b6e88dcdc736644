"""The graphs' runners against each other, and the clock between micro-steps."""

from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from engine.graphs import StepRunner
from engine.loaded_model import LoadedModel
from engine.settings import Decoding, SessionSettings
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


@pytest.mark.parametrize("decoding", ["step", "native"])
def test_past_its_deadline_a_slate_is_left_and_past_the_time_for_it_reasoning(
    bundle: Path, decoding: Decoding
) -> None:
    """Row by row: one that has time is written beside one that has none as it is alone."""
    model = LoadedModel.open(bundle, SessionSettings(decoding=decoding))
    arrays, control = random_requests(model.features, model.manifest, 1, seed=3)[0]
    free = replace(control, entropy_threshold=-1.0, reasoning_budget=2, seed=None, micro_step_budget=10_000)
    now = monotonic()
    rows = [
        free,
        replace(free, deadline=now),
        replace(free, reason_until=now),
        replace(free, deadline=now + 600),
    ]
    patient, late, hurried, in_time = model.generate([arrays] * len(rows), rows)
    assert patient.reasoning_tokens == 2 * free.slate_length
    assert late.positions == ()
    assert (hurried.reasoning_tokens, hurried.stop) == (0, "deadline")
    assert [p.index for p in in_time.positions] == [p.index for p in patient.positions]
    assert in_time.reasoning_tokens == patient.reasoning_tokens
    (none,) = model.generate([arrays], [replace(free, micro_step_budget=0)])
    assert [p.index for p in hurried.positions] == [p.index for p in none.positions]
    (alone,) = model.generate([arrays], [replace(free, deadline=now)])
    assert alone.positions == ()


@pytest.mark.parametrize("decoding", ["step", "native"])
def test_the_clock_is_looked_at_while_slates_are_written(bundle: Path, decoding: Decoding) -> None:
    """More and more time is given until it is enough: before that, slates are cut somewhere in the middle."""
    model = LoadedModel.open(bundle, SessionSettings(decoding=decoding))
    arrays, control = random_requests(model.features, model.manifest, 1)[0]
    rows = np.arange(500) % len(arrays["candidate_numeric"])
    arrays = {name: a[rows] if name.startswith("candidate") else a for name, a in arrays.items()}
    control = replace(control, slate_length=500, entropy_threshold=-1.0, reasoning_budget=2, seed=None)
    seconds, written = 1e-4, list[int]()
    while 500 not in written:
        (slate,) = model.generate([arrays], [replace(control, deadline=monotonic() + seconds)])
        written.append(len(slate.positions))
        seconds *= 1.5
    assert written[0] == 0
    assert any(0 < length < 500 for length in written)
