"""A policy that starts from the initial ranker's order, on every path it is decoded by."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_bundle import TinyBundles, tiny_calibration, tiny_config, tiny_features, tiny_policy

from bundle.features.assembly import Candidates
from bundle.features.history import UserContext
from engine.generation import Controls
from engine.graphs import SlateRunner, StepRunner
from engine.loaded_model import LoadedModel
from engine.native.runner import NativeRunner
from engine.runner import Runner
from engine.settings import SessionSettings
from export.parity import TorchRunner, compare, random_requests, random_scores
from export.writer import Trained, write_bundle

Scores = list[float] | None


def exported(bundle: Path) -> list[Runner]:
    """Every path of a bundle."""
    settings, model = SessionSettings(), LoadedModel.open(bundle)
    manifest = model.manifest
    graphs = SlateRunner(bundle, manifest, settings), StepRunner(bundle, manifest, settings)
    return [NativeRunner(bundle, manifest, model.features, settings), *graphs]


def by_score(scores: Scores, candidates: int) -> NDArray[np.int64]:
    """Best first, the first of equals first; a candidate without a score stands where their mean does."""
    values = np.full(candidates, np.nan) if scores is None else np.array(scores)
    mean = np.nanmean(values) if np.isfinite(values).any() else 0.0
    return np.argsort(-np.where(np.isnan(values), mean, values), kind="stable")


def scored_lists() -> list[tuple[int, Scores]]:
    """Candidates and scores: with ties and gaps, apart by less than float32 knows, beyond the clip, none."""
    rng = np.random.default_rng(0)
    drawn = [(n, random_scores(rng, n)) for n in rng.choice([2, 5, 24, 100, 200], 20).tolist()]
    near, far = [1.0 + 1e-12 * (n % 70) for n in range(200)], [10.0**n for n in range(100)]
    return [*drawn, (200, near), (100, far), (20, [3.0] * 20), (20, None)]


def lists(model: LoadedModel, **changes: int) -> list[list[int]]:
    """What the model writes of all the scored lists, as long as they are."""
    inputs, controls = [], []
    for candidates, scores in scored_lists():
        listed = Candidates([f"i{n}" for n in range(candidates)], scores=scores)
        inputs.append(model.features.request(listed, UserContext(), {}, 0.0))
        controls.append(replace(Controls.default(model.manifest, candidates), **changes))
    return [[position.index for position in slate.positions] for slate in model.generate(inputs, controls)]


def test_before_training_every_path_writes_the_rankers_list(tiny_bundles: TinyBundles) -> None:
    bundle = tiny_bundles(base_score=True)
    model = LoadedModel.open(bundle)
    expected = [by_score(scores, candidates).tolist() for candidates, scores in scored_lists()]
    for runner in exported(bundle):
        for budget in (0, 2):
            assert lists(replace(model, runner=runner), reasoning_budget=budget) == expected, type(runner)


@pytest.mark.parametrize(
    ("decoder", "reasoner", "layers"), [("gru", "deep", 1), ("lstm", "paper", 0), ("transformer", "pause", 0)]
)
def test_so_does_every_decoder(decoder: str, reasoner: str, layers: int, bundle: Path) -> None:
    """In PyTorch; the features are any tiny bundle's."""
    model = LoadedModel.open(bundle)
    policy = tiny_policy(model.features, reasoner, layers, decoder=decoder, base_score=True)
    expected = [by_score(scores, candidates).tolist() for candidates, scores in scored_lists()]
    assert lists(replace(model, runner=TorchRunner(policy))) == expected


@pytest.mark.slow
def test_a_trained_one_is_the_same_on_every_path(tmp_path: Path) -> None:
    features, config = tiny_features(), tiny_config(base_score=True)
    policy = tiny_policy(features, base_score=True)
    with torch.no_grad():
        for learned in (policy.encoder.pointer_keys, policy.encoder.pointer_bias):
            learned.weight.normal_()
        policy.encoder.base_weights.copy_(torch.tensor([0.7, -0.4]))
    write_bundle(Trained(config, policy, features, tiny_calibration(), {}), tmp_path)
    requests = random_requests(features, LoadedModel.open(tmp_path).manifest, 80)
    for runner in exported(tmp_path):
        assert compare(TorchRunner(policy), runner, requests).identical == 80, type(runner)
    with torch.no_grad():
        policy.encoder.base_weights[0] = 1.0
    for runner in exported(tmp_path):
        assert compare(TorchRunner(policy), runner, requests).identical < 80, type(runner)


def test_without_a_base_score_there_are_no_weights_of_one(bundle: Path) -> None:
    """Neither in a policy nor in a bundle, so that those written earlier are read."""
    features = LoadedModel.open(bundle).features
    base = {"encoder.base_weights"}
    assert set(tiny_policy(features, base_score=True).state_dict()) - base == set(
        tiny_policy(features).state_dict()
    )


def test_a_base_score_needs_an_initial_score() -> None:
    config = tiny_config(base_score=True).model_dump()
    config["features"]["initial_score"] = False
    with pytest.raises(ValueError, match=r"policy\.base_score needs the initial score"):
        type(tiny_config()).model_validate(config)
    features = tiny_features()
    features.schema = features.schema.model_copy(update={"initial_score": False})
    with pytest.raises(ValueError, match=r"policy\.base_score needs the initial score"):
        tiny_policy(features, base_score=True)
