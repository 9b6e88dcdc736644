"""The step path in fixed shapes, on the CPU: the same lists, by sessions in which no shape is computed."""

from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from bundle.features.assembly import collate
from engine.fixed_shapes import AXES, SIZES, Bucket, FixedShapeRunner
from engine.generation import Times, stack_controls
from engine.graphs import StepRunner
from engine.loaded_model import LoadedModel
from engine.settings import SessionSettings
from export.parity import compare, constrained_requests, random_requests


@pytest.fixture(scope="module")
def model(bundle: Path) -> LoadedModel:
    return LoadedModel.open(bundle)


@pytest.fixture(scope="module")
def runner(bundle: Path, model: LoadedModel) -> FixedShapeRunner:
    return FixedShapeRunner(bundle, model.manifest, SessionSettings())


@pytest.fixture(scope="module")
def stepwise(bundle: Path, model: LoadedModel) -> StepRunner:
    return StepRunner(bundle, model.manifest, SessionSettings())


def test_lists_are_those_of_the_step_path(
    model: LoadedModel, runner: FixedShapeRunner, stepwise: StepRunner
) -> None:
    """In batches of several sizes, with rules for the list and without."""
    sizes = (1, 5, 16, 17, 100)
    plain = random_requests(model.features, model.manifest, 90, seed=7, sizes=sizes)
    for requests in (plain, constrained_requests(model.features, model.manifest, 50)):
        found = compare(stepwise, runner, requests)
        assert found.identical == found.lists
    batches, lengths = ({getattr(bucket, axis) for bucket in runner.buckets} for axis in "BN")
    assert batches == {1, 4, 16, 64}
    assert {16, 64, 256} <= lengths


def test_a_batch_leaves_nothing_behind_for_the_next(model: LoadedModel, runner: FixedShapeRunner) -> None:
    """Places are written over, not made anew."""
    (long, _), (short, _) = (
        random_requests(model.features, model.manifest, 1, seed=seed, sizes=(size,))[0]
        for seed, size in ((1, 16), (2, 9))
    )

    def written(arrays: dict[str, np.ndarray]) -> list[int]:
        n = len(arrays["candidate_numeric"])
        controls = replace(
            random_requests(model.features, model.manifest, 1)[0][1], slate_length=n, seed=None
        )
        records = runner.run(collate([arrays]), stack_controls([controls], [n]))
        return [int(row[0]) for row in records["chosen"] if row[0] >= 0]

    before = written(short)
    assert sorted(written(long)) == list(range(16))
    assert written(short) == before
    assert sorted(before) == list(range(9))


def test_it_stops_at_a_deadline(model: LoadedModel, runner: FixedShapeRunner) -> None:
    arrays, control = random_requests(model.features, model.manifest, 1, seed=3)[0]
    controls = stack_controls([control] * 2, [len(arrays["candidate_numeric"])] * 2)
    times = Times(np.array([0.0, np.inf]), np.array([monotonic(), np.inf]))
    records = runner.run(collate([arrays] * 2), controls, times)
    late, patient = ((records["chosen"][:, row] >= 0).sum() for row in (0, 1))
    assert (late, patient) == (0, control.slate_length)


def test_sizes_are_the_next_and_past_the_last_its_multiples() -> None:
    def of(batch: int, n: int, events: int, positions: int) -> Bucket:
        inputs = {
            "candidate_mask": np.ones((batch, n), bool),
            "history_feedback": np.zeros((batch, events), np.int32),
        }
        return Bucket.of(inputs, {"noise": np.zeros((batch, positions, n), np.float32)})

    assert of(1, 16, 0, 1) == Bucket(1, 16, 16, 1)
    assert of(2, 17, 17, 2) == Bucket(4, 64, 64, 16)
    assert of(65, 2049, 257, 1) == Bucket(128, 4096, 512, 1)
    assert all(list(sizes) == sorted(sizes) for sizes in SIZES.values())


def test_padding_is_nothing_that_could_be_chosen() -> None:
    mask = np.ones((2, 3), bool)
    padded = Bucket(4, 16, 16, 1).padded({"candidate_mask": mask}, AXES)["candidate_mask"]
    assert padded.shape == (4, 16)
    assert padded.sum() == mask.sum()
    assert padded[:2, :3].all()
