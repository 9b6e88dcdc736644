"""Lists improved by the evaluator: the same on every path, in any batch, and never for the worse."""

from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from tiny_bundle import TinyBundles

import engine.lookahead
from bundle.arrays import Arrays
from bundle.features.assembly import collate
from engine.generation import Controls, Slate
from engine.graphs import EvaluatorGraphs, StepWriter
from engine.loaded_model import LoadedModel
from engine.native.evaluator import NativeEvaluator
from engine.native.runner import NativeRunner
from engine.settings import Decoding, SessionSettings
from export.parity import random_requests

Requests = list[tuple[Arrays, Controls]]


@pytest.fixture(scope="module")
def judging(tiny_bundles: TinyBundles) -> Path:
    return tiny_bundles(evaluators=3)


@pytest.fixture(scope="module")
def model(judging: Path) -> LoadedModel:
    return LoadedModel.open(judging)


@pytest.fixture(scope="module")
def requests(model: LoadedModel) -> Requests:
    """Greedy, of several lengths, budgets, thresholds and temperatures, with one to three alternatives."""
    return [
        (
            arrays,
            replace(
                controls,
                entropy_threshold=0.9 * controls.entropy_threshold,
                seed=None,
                lookahead=1 + number % 3,
            ),
        )
        for number, (arrays, controls) in enumerate(
            random_requests(model.features, model.manifest, 24, seed=11, sizes=(2, 24, 24, 50))
        )
    ]


def items(slate: Slate) -> list[int]:
    return [position.index for position in slate.positions]


def value(model: LoadedModel, arrays: Arrays, slate: Slate) -> float:
    assert model.lookahead is not None
    evaluator = model.lookahead.evaluator
    encoded = evaluator.encode(collate([arrays]))
    return float(evaluator.values(encoded, np.zeros(1, np.int64), np.array([items(slate)]))[0])


def test_what_is_compiled_where_the_bundle_has_its_weights(judging: Path) -> None:
    expected: dict[Decoding, tuple[type, type]] = {
        "auto": (NativeRunner, NativeEvaluator),
        "graph": (StepWriter, EvaluatorGraphs),
        "step": (StepWriter, EvaluatorGraphs),
    }
    for decoding, kinds in expected.items():
        ahead = LoadedModel.open(judging, SessionSettings(decoding=decoding)).lookahead
        assert ahead is not None
        assert (type(ahead.writer), type(ahead.evaluator)) == kinds


def test_a_bundle_without_an_evaluator_writes_the_policys_own_list(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    assert model.lookahead is None
    for arrays, controls in random_requests(model.features, model.manifest, 4):
        ahead, own = (model.generate([arrays], [replace(controls, lookahead=count)])[0] for count in (2, 0))
        assert ahead == own


def test_every_path_and_every_batch_gives_the_same_lists(
    judging: Path, model: LoadedModel, requests: Requests
) -> None:
    """Beside requests that do not look ahead, too."""
    stepwise = LoadedModel.open(judging, SessionSettings(decoding="step"))
    alone = [model.generate([arrays], [controls])[0] for arrays, controls in requests]
    assert sum(slate.judged > 0 for slate in alone) > 12
    mixed = [(arrays, replace(controls, lookahead=0)) for arrays, controls in requests[:6]] + requests
    arrays, controls = [row[0] for row in mixed], [row[1] for row in mixed]
    for slates in (model.generate(arrays, controls), stepwise.generate(arrays, controls)):
        for slate, expected in zip(slates[6:], alone, strict=True):
            assert items(slate) == items(expected)
            assert (slate.stop, slate.judged) == (expected.stop, expected.judged)
            for mine, theirs in zip(slate.positions, expected.positions, strict=True):
                assert mine.reasoning_tokens == theirs.reasoning_tokens
                assert mine.propensity == 1.0
                assert mine.probability == pytest.approx(theirs.probability, abs=1e-5)
                assert mine.entropy_before == pytest.approx(theirs.entropy_before, abs=2e-5)
        assert {slate.judged for slate in slates[:6]} == {0}


def test_no_list_is_worse_to_the_evaluator_and_many_are_better(
    model: LoadedModel, requests: Requests
) -> None:
    better = 0
    for arrays, controls in requests:
        (own,) = model.generate([arrays], [replace(controls, lookahead=0)])
        (ahead,) = model.generate([arrays], [controls])
        assert len(set(items(ahead))) == len(items(ahead)) == controls.slate_length
        gain = value(model, arrays, ahead) - value(model, arrays, own)
        assert gain >= -1e-6
        better += gain > 1e-4
    assert better > 6


def test_only_uncertain_positions_are_looked_at(model: LoadedModel, requests: Requests) -> None:
    """Each costs as many lists as alternatives, where so many are left."""
    for arrays, controls in requests:
        never = replace(controls, entropy_threshold=1e9)
        always = replace(controls, entropy_threshold=-1.0, lookahead=2)
        (closed,), (opened,) = (model.generate([arrays], [c]) for c in (never, always))
        assert closed.judged == 0
        left = [len(arrays["candidate_numeric"]) - place - 1 for place in range(controls.slate_length)]
        assert opened.judged == sum(min(2, others) for others in left)


def test_what_is_sampled_stays_as_it_was_drawn(model: LoadedModel, requests: Requests) -> None:
    for arrays, controls in requests[:6]:
        drawn = replace(controls, seed=5)
        assert model.generate([arrays], [drawn]) == model.generate([arrays], [replace(drawn, lookahead=0)])


def test_a_probability_is_that_of_the_item_that_stands_there(model: LoadedModel, requests: Requests) -> None:
    """Where another item was put, that is less likely than the one before it would have been."""
    replaced = 0
    for arrays, controls in requests:
        free = replace(controls, reasoning_budget=0)
        (own,), (ahead,) = (model.generate([arrays], [replace(free, lookahead=count)]) for count in (0, 3))
        for before, after in zip(own.positions, ahead.positions, strict=True):
            if before.index != after.index:
                assert after.probability < before.probability
                assert after.entropy_before == pytest.approx(before.entropy_before, abs=1e-6)
                replaced += 1
                break
    assert replaced > 6


def test_without_time_the_list_is_the_policys_own(model: LoadedModel, requests: Requests) -> None:
    arrays, controls = next((a, c) for a, c in requests if model.generate([a], [c])[0].judged)
    hurried = replace(controls, reasoning_budget=0, reason_until=monotonic())
    (own,) = model.generate([arrays], [replace(hurried, lookahead=0)])
    (slate,) = model.generate([arrays], [hurried])
    assert (items(slate), slate.judged, slate.stop) == (items(own), 0, "deadline")
    (late,) = model.generate([arrays], [replace(hurried, deadline=monotonic())])
    assert (late.positions, late.judged) == ((), 0)


def test_time_that_runs_out_leaves_the_best_list_so_far(
    model: LoadedModel, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the clock takes a second of the time there is; each allows for one more part."""
    arrays, controls = max(requests, key=lambda row: model.generate([row[0]], [row[1]])[0].judged)
    started, worth, judged = monotonic(), [], []
    for seconds in (0, 1, 2, 4, 8, 1000):
        looks = iter(range(10_000))
        monkeypatch.setattr(engine.lookahead, "monotonic", lambda looks=looks: started + 1e6 + next(looks))
        (slate,) = model.generate([arrays], [replace(controls, reason_until=started + 1e6 + seconds)])
        worth.append(value(model, arrays, slate))
        judged.append(slate.judged)
        assert (slate.stop == "deadline") == (seconds < 1000)
    assert worth == sorted(worth)
    assert judged == sorted(judged)
    assert judged[0] == 0 < judged[1] < judged[-1]
