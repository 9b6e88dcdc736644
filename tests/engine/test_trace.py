"""The micro-steps of a traced request are the same on every path, and its list is that of one without."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_bundle import TinyBundles

from engine.generation import Controls, Position, Slate
from engine.loaded_model import LoadedModel
from engine.settings import SessionSettings
from export.parity import Request, constrained_requests, random_requests

LEADING = 5


def written(model: LoadedModel, requests: list[Request], candidates: int) -> list[Slate]:
    """In one batch, with so many candidates traced."""
    controls = [replace(control, trace_candidates=candidates) for _, control in requests]
    return model.generate([arrays for arrays, _ in requests], controls)


def untraced(position: Position) -> Position:
    return replace(position, micro_steps=())


@pytest.fixture(scope="module")
def requests(bundle: Path) -> list[Request]:
    """Of several lengths, budgets and temperatures, greedy and sampled, most of them under rules."""
    model = LoadedModel.open(bundle)
    return constrained_requests(model.features, model.manifest, 20)


@pytest.mark.parametrize("decoding", ["native", "graph", "step"])
def test_a_trace_changes_no_list(decoding: str, bundle: Path, requests: list[Request]) -> None:
    model = LoadedModel.open(bundle, SessionSettings(decoding=decoding))
    for slate, expected in zip(written(model, requests, LEADING), written(model, requests, 0), strict=True):
        assert slate.stop == expected.stop
        assert [p.index for p in slate.positions] == [p.index for p in expected.positions]
        for mine, theirs in zip(slate.positions, expected.positions, strict=True):
            assert mine.reasoning_tokens == theirs.reasoning_tokens
            assert theirs.micro_steps == ()
            assert mine.probability == pytest.approx(theirs.probability, abs=1e-5)


def test_every_path_tells_the_same(bundle: Path, requests: list[Request]) -> None:
    native, graph = (LoadedModel.open(bundle, SessionSettings(decoding=d)) for d in ("native", "graph"))
    for mine, theirs in zip(
        written(native, requests, LEADING), written(graph, requests, LEADING), strict=True
    ):
        for position, reference in zip(mine.positions, theirs.positions, strict=True):
            assert len(position.micro_steps) == position.reasoning_tokens + 1
            for step, other in zip(position.micro_steps, reference.micro_steps, strict=True):
                assert step.entropy == pytest.approx(other.entropy, abs=2e-5)
                assert step.uncertainty == pytest.approx(other.uncertainty, abs=2e-5)
                assert step.probabilities == pytest.approx(other.probabilities, abs=1e-5)
                for item, share in zip(step.candidates, step.probabilities, strict=True):
                    if item in other.candidates:  # equally probable ones may trade the last places
                        told = other.probabilities[other.candidates.index(item)]
                        assert share == pytest.approx(told, abs=1e-5)


def test_what_is_told_adds_up(bundle: Path, requests: list[Request]) -> None:
    """With all candidates told, the entropy follows from their probabilities."""
    model = LoadedModel.open(bundle)
    tokens = 0
    for slate in written(model, requests, 1000):
        for position in slate.positions:
            first, last = position.micro_steps[0], position.micro_steps[-1]
            assert (first.entropy, last.entropy) == (position.entropy_before, position.entropy_after)
            assert last.uncertainty == position.uncertainty
            chosen = last.candidates.index(position.index)
            assert last.probabilities[chosen] == position.probability
            tokens += position.reasoning_tokens
            for step in position.micro_steps:
                shares = step.probabilities
                assert shares == sorted(shares, reverse=True)
                assert len(set(step.candidates)) == len(step.candidates)
                assert sum(shares) == pytest.approx(1.0, abs=1e-5)
                entropy = -sum(share * math.log(share) for share in shares)
                assert step.entropy == pytest.approx(entropy, abs=1e-4)
    assert tokens > 20


@pytest.mark.parametrize("decoding", ["native", "step"])
def test_a_list_that_lookahead_improved_is_traced_too(decoding: str, tiny_bundles: TinyBundles) -> None:
    model = LoadedModel.open(tiny_bundles(evaluators=3), SessionSettings(decoding=decoding))
    drawn = random_requests(model.features, model.manifest, 6, seed=11, sizes=(2, 24))
    requests = [(arrays, _looking(control)) for arrays, control in drawn]
    improved = 0
    for slate, expected in zip(written(model, requests, LEADING), written(model, requests, 0), strict=True):
        assert [untraced(position) for position in slate.positions] == list(expected.positions)
        for position in slate.positions:
            assert len(position.micro_steps) == position.reasoning_tokens + 1
            last = position.micro_steps[-1]
            assert last.entropy == position.entropy_after
            improved += last.candidates[0] != position.index
    assert improved > 0


def _looking(control: Controls) -> Controls:
    return replace(control, seed=None, lookahead=2, entropy_threshold=0.9 * control.entropy_threshold)
