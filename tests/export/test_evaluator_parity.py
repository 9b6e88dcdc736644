"""The exported evaluator against PyTorch's, and that a difference is noticed."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_bundle import TinyBundles, tiny_evaluator, tiny_features

from bundle.arrays import read_arrays
from bundle.contract import ENCODER_INPUTS, EVALUATED, NO_ITEM, SLATES, VALUE
from bundle.features.assembly import collate
from bundle.manifest import (
    EVALUATE,
    EVALUATOR,
    EVALUATOR_ENCODER,
    MANIFEST,
    BundleError,
    Manifest,
    read_manifest,
    sha256,
)
from engine.loaded_model import LoadedModel
from engine.native.evaluator import NativeEvaluator
from export.evaluate_weights import evaluate_weights
from export.parity import ParityError, check_lookahead, random_requests
from model.training.checkpoint import load_policy


def test_values_and_lists_are_torchs_on_every_path(tiny_bundles: TinyBundles) -> None:
    bundle = tiny_bundles(evaluators=3)
    model = LoadedModel.open(bundle)
    requests = [arrays for arrays, _ in random_requests(model.features, model.manifest, 20, seed=4)]
    results = check_lookahead(bundle, load_policy(bundle, model.features), requests)
    assert [result.identical for result in results.values()] == [20, 20]
    assert max(result.difference for result in results.values()) < 1e-5


def test_the_graphs_have_the_contracts_inputs_and_outputs(tiny_bundles: TinyBundles) -> None:
    bundle = tiny_bundles(evaluators=3)
    for name, inputs, output in (
        (EVALUATOR_ENCODER, ENCODER_INPUTS, EVALUATED),
        (EVALUATOR, (EVALUATED, SLATES), VALUE),
    ):
        graph = onnx.load(bundle / name).graph
        assert [value.name for value in graph.input] == [spec.name for spec in inputs]
        assert [value.name for value in graph.output] == [output.name]


def test_other_weights_are_noticed(tiny_bundles: TinyBundles, tmp_path: Path) -> None:
    bundle = tmp_path / "changed"
    shutil.copytree(tiny_bundles(evaluators=3), bundle)
    weights = read_arrays(bundle / EVALUATE)
    weights["0.past_bias"] = weights["0.past_bias"] + np.float32(1.0)
    np.savez(bundle / EVALUATE, allow_pickle=False, **weights)
    _sign(bundle)
    model = LoadedModel.open(bundle)
    requests = [arrays for arrays, _ in random_requests(model.features, model.manifest, 4)]
    with pytest.raises(ParityError, match="a list's value is"):
        check_lookahead(bundle, load_policy(bundle, model.features), requests)


def test_one_network_is_evaluated_as_several_are(tmp_path: Path, bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    evaluator = tiny_evaluator(model.features, members=1)
    weights = evaluate_weights(evaluator)
    assert weights is not None
    np.savez(tmp_path / EVALUATE, allow_pickle=False, **weights)
    native = NativeEvaluator(tmp_path / EVALUATE, model.features, threads=1)
    for arrays, _ in random_requests(model.features, model.manifest, 10, sizes=(5, 24)):
        inputs, slates = collate([arrays]), np.array([[3, 0, 4, 1, NO_ITEM]])
        found = native.values(native.encode(inputs), np.zeros(1, np.int64), slates)
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with torch.no_grad():
            expected = evaluator.reward(evaluator.encode(tensors), torch.from_numpy(slates))
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_an_evaluator_of_another_width_or_that_is_blind_is_not_compiled() -> None:
    evaluator = tiny_evaluator(tiny_features(), members=1)
    assert evaluate_weights(evaluator) is not None
    evaluator.networks[0].blind = True
    assert evaluate_weights(evaluator) is None


def test_half_an_evaluator_or_lookahead_without_one_is_refused(
    tiny_bundles: TinyBundles, bundle: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(tiny_bundles(evaluators=3), half)
    (half / EVALUATOR_ENCODER).unlink()
    _sign(half)
    with pytest.raises(BundleError, match=f"one of {EVALUATOR_ENCODER} and {EVALUATOR} is missing"):
        read_manifest(half)
    none = tmp_path / "none"
    shutil.copytree(bundle, none)
    _sign(none, lookahead=2)
    with pytest.raises(BundleError, match=f"lookahead: there is no {EVALUATOR}"):
        read_manifest(none)


def _sign(bundle: Path, **changes: int) -> None:
    """Give the manifest the hashes of the files that are there."""
    manifest = Manifest.model_validate_json((bundle / MANIFEST).read_bytes())
    hashes = {path.name: sha256(path) for path in sorted(bundle.iterdir()) if path.name != MANIFEST}
    changed = manifest.model_copy(update={"hashes": hashes, **changes})
    (bundle / MANIFEST).write_text(changed.model_dump_json())
