"""The exported evaluator against PyTorch's, and that a difference is noticed."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_bundle import TinyBundles, tiny_evaluator, tiny_features

from bundle.arrays import read_arrays
from bundle.contract import ENCODER_INPUTS, EVALUATED, SLATES, VALUE
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
from export.evaluate_weights import evaluate_weights
from export.parity import ParityError, check_lookahead, random_requests
from model.training.checkpoint import load_policy


@pytest.mark.parametrize("evaluators", [1, 3])
def test_values_and_lists_are_torchs_on_every_path(evaluators: int, tiny_bundles: TinyBundles) -> None:
    bundle = tiny_bundles(evaluators=evaluators)
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
    shutil.copytree(tiny_bundles(evaluators=1), bundle)
    weights = read_arrays(bundle / EVALUATE)
    weights["0.past_bias"] = weights["0.past_bias"] + np.float32(1.0)
    np.savez(bundle / EVALUATE, allow_pickle=False, **weights)
    _sign(bundle)
    model = LoadedModel.open(bundle)
    requests = [arrays for arrays, _ in random_requests(model.features, model.manifest, 4)]
    with pytest.raises(ParityError, match="a list's value is"):
        check_lookahead(bundle, load_policy(bundle, model.features), requests)


def test_an_evaluator_of_another_width_or_that_is_blind_is_not_compiled() -> None:
    evaluator = tiny_evaluator(tiny_features(), members=1)
    assert evaluate_weights(evaluator) is not None
    evaluator.networks[0].blind = True
    assert evaluate_weights(evaluator) is None


def test_half_an_evaluator_or_lookahead_without_one_is_refused(
    tiny_bundles: TinyBundles, bundle: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(tiny_bundles(evaluators=1), half)
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
