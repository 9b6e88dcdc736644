"""The exported graphs: names, axes, control flow, and parity that can fail."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import onnx
import pytest
import torch
from tiny_bundle import TinyBundles, tiny_calibration, tiny_config, tiny_features, tiny_policy

from bundle.contract import CONTRACT_VERSION, CONTROLS, ENCODER_INPUTS, LOGITS, MEMORY, RECORD
from bundle.manifest import (
    CATALOGUE,
    DECODE,
    ENCODE,
    ENCODER,
    MANIFEST,
    POLICY,
    SLATE,
    STEP,
    BundleError,
    read_manifest,
    sha256,
)
from engine.generation import Controls
from engine.graphs import SlateRunner, StepRunner
from engine.loaded_model import LoadedModel
from engine.sessions import ProviderUnavailableError, SessionSettings
from examples import own_decoder
from export import parity
from export.parity import ParityError, TorchRunner, check_bundle, compare, random_requests
from export.writer import Trained, write_bundle
from model.training.checkpoint import load_policy

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's libraries warn of each other

OTHERS = [
    ("deep", 1, "normalised", "gru"),
    ("paper", 0, "raw", "gru"),
    ("pause", 0, "normalised", "gru"),
    ("deep", 0, "raw", "lstm"),
    ("paper", 0, "normalised", "lstm"),
    ("deep", 0, "margin", "transformer"),
    ("paper", 0, "normalised", "transformer"),
    ("deep", 0, "normalised", "minimal"),
    ("none", 0, "normalised", "gru"),
    ("none", 0, "normalised", "lstm"),
    ("none", 0, "normalised", "transformer"),
]
assert own_decoder.DECODERS["minimal"]  # importing the example adds its decoder


@pytest.fixture(scope="module", params=OTHERS, ids=lambda other: "-".join(map(str, other)))
def other_bundle(request: pytest.FixtureRequest, tiny_bundles: TinyBundles) -> Path:
    """Every choice of the policy that the session's tiny bundle does not have."""
    reasoner, layers, gate, decoder = request.param
    return tiny_bundles(reasoner, layers, decoder, gate)


def nodes(graph: onnx.GraphProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.node)


def axes(values: list[onnx.ValueInfoProto]) -> dict[str, tuple[str | int, ...]]:
    return {
        value.name: tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in values
    }


def test_the_graphs_speak_the_contract(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    encoder, step, slate = (onnx.load(bundle / name).graph for name in (ENCODER, STEP, SLATE))
    state = list(manifest.state_axes)
    assert list(axes(encoder.input)) == [spec.name for spec in ENCODER_INPUTS]
    assert [o.name for o in encoder.output][: len(MEMORY)] == [spec.name for spec in MEMORY]
    assert list(axes(step.input)) == [
        *(spec.name for spec in MEMORY),
        *(f"past_{name}" for name in state),
        *(spec.name for spec in CONTROLS),
    ]
    assert [o.name for o in step.output] == [
        *(f"present_{name}" for name in state),
        *(spec.name for spec in (*RECORD, LOGITS)),
    ]
    assert set(axes(slate.input)) == {spec.name for spec in (*ENCODER_INPUTS, *CONTROLS)}
    assert axes(slate.output) == {spec.name: ("M", "B") for spec in RECORD}
    assert axes(slate.input)["noise"] == ("B", "P", "N")


def test_control_flow_is_one_loop_in_the_slate_graph_only(bundle: Path) -> None:
    encoder, step, slate = (nodes(onnx.load(bundle / name).graph) for name in (ENCODER, STEP, SLATE))
    assert not {"Loop", "If", "Scan"} & (set(encoder) | set(step))
    assert slate["Loop"] == 1
    assert not {"If", "Scan"} & set(slate)


def test_the_loops_body_is_the_step_without_what_never_changes(bundle: Path) -> None:
    encoder, step = (nodes(onnx.load(bundle / name).graph) for name in (ENCODER, STEP))
    graph = onnx.load(bundle / SLATE).graph
    (loop,) = (node for node in graph.node if node.op_type == "Loop")
    body = nodes(loop.attribute[0].g)
    around = Counter({"Loop": 1, "Shape": 1, "ConstantOfShape": 1, "Constant": 1, "Identity": len(RECORD)})
    ends = Counter({"Less": 1, "Cast": 2, "ReduceMax": 1})  # is any slate still being written?
    assert nodes(graph) + body == encoder + step + around + ends
    hoisted = step - body
    assert {"Shape", "Range", "Transpose"} <= set(hoisted)
    assert not {"Shape", "Range", "Transpose"} & set(body)


def test_the_session_bundle_agrees_with_torch(bundle: Path) -> None:
    results = check_bundle(bundle, random=200, real=0)
    assert set(results) == {
        f"{path}, {kind}" for path in ("slate graph", "step graph", "native") for kind in ("random", "long")
    }
    assert results["step graph, random"].logit_difference < 1e-4


def test_other_policies_agree_with_torch(other_bundle: Path) -> None:
    check_bundle(other_bundle, random=150, real=0)


@pytest.mark.parametrize(("layers", "attention"), [(0, "full"), (1, "full"), (2, "inducing")])
def test_long_lists_agree_with_torch(layers: int, attention: str, tmp_path: Path) -> None:
    """Of 1,000 candidates and of 24, in one padded batch."""
    features = tiny_features(1200)
    policy = tiny_policy(features, layers=layers, attention=attention)
    config = tiny_config("deep", layers, attention=attention)
    write_bundle(Trained(config, policy, features, tiny_calibration(), {}), tmp_path)
    model = LoadedModel.open(tmp_path)
    requests = random_requests(model.features, model.manifest, 12, sizes=(24, 500, 1000))
    assert {len(arrays["candidate_numeric"]) for arrays, _ in requests} == {24, 500, 1000}
    stepwise = StepRunner(tmp_path, model.manifest, SessionSettings(), inspect=(LOGITS.name,))
    for runner in (model.runner, stepwise):
        result = compare(TorchRunner(policy), runner, requests)
        assert result.identical == 12


def test_trained_without_reasoning_never_reasons(tiny_bundles: TinyBundles) -> None:
    """Nor is there anything in its graph to reason with."""
    directory = tiny_bundles("none")
    model = LoadedModel.open(directory)
    requests = random_requests(model.features, model.manifest, 60)
    assert any(control.reasoning_budget for _, control in requests)
    slates = [model.generate([arrays], [control])[0] for arrays, control in requests]
    assert all(len(s.positions) == c.slate_length for s, (_, c) in zip(slates, requests, strict=True))
    assert not any(position.reasoning_tokens for slate in slates for position in slate.positions)
    step = onnx.load(directory / STEP).graph
    assert not [tensor.name for tensor in step.initializer if "reasoner" in tensor.name]


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
    runner = StepRunner(bundle, model.manifest, SessionSettings(), inspect=(LOGITS.name,))
    requests = random_requests(model.features, model.manifest, 40)
    same = compare(runner, runner, requests)
    assert (same.identical, same.logit_difference) == (40, 0.0)


def test_selectable_follows_the_slate() -> None:
    chosen = np.array([[1, 0], [-1, 1], [0, -1]])
    left = parity._selectable(chosen, np.array([[True, True], [True, True]]))
    assert left[:, 0].tolist() == [[True, True], [True, False], [True, False]]
    assert left[:, 1].tolist() == [[True, True], [False, True], [False, False]]


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


def test_greedy_propensity_is_one_and_sampled_is_not(bundle: Path) -> None:
    model = LoadedModel.open(bundle)
    (arrays, _), *_ = random_requests(model.features, model.manifest, 1, seed=2)
    length = len(arrays["candidate_numeric"])
    greedy = Controls.default(model.manifest, min(5, length))
    (slate,) = model.generate([arrays], [greedy])
    assert all(position.propensity == 1.0 for position in slate.positions)


def copy(bundle: Path, target: Path) -> Path:
    shutil.copytree(bundle, target)
    return target


@pytest.mark.parametrize("name", [ENCODER, SLATE, CATALOGUE, POLICY, DECODE, ENCODE])
def test_a_corrupted_file_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    broken = copy(bundle, tmp_path / "b")
    content = bytearray((broken / name).read_bytes())
    content[len(content) // 2] ^= 1
    (broken / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} does not match its sha256"):
        LoadedModel.open(broken)


def test_a_missing_file_or_manifest_is_refused(bundle: Path, tmp_path: Path) -> None:
    broken = copy(bundle, tmp_path / "b")
    (broken / STEP).unlink()
    with pytest.raises(BundleError, match=f"{STEP} is missing"):
        LoadedModel.open(broken)
    with pytest.raises(BundleError, match="no bundle here"):
        LoadedModel.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contract_version": CONTRACT_VERSION + 1}, "step contract"),
        ({"surprise": 1}, "surprise"),
        ({"hashes": {}}, "no hash"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    bundle: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    broken = copy(bundle, tmp_path / "b")
    manifest = json.loads((broken / MANIFEST).read_text())
    (broken / MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(BundleError, match=message):
        LoadedModel.open(broken)


def test_a_file_that_is_no_graph_is_refused(bundle: Path, tmp_path: Path) -> None:
    broken = copy(bundle, tmp_path / "b")
    (broken / SLATE).write_bytes(b"not a graph")
    manifest = json.loads((broken / MANIFEST).read_text())
    manifest["hashes"][SLATE] = sha256(broken / SLATE)
    (broken / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="cannot load"):
        LoadedModel.open(broken, SessionSettings(decoding="graph"))


def test_a_provider_that_is_not_active_is_refused_or_allowed(bundle: Path) -> None:
    with pytest.raises(ProviderUnavailableError, match="CUDAExecutionProvider"):
        LoadedModel.open(bundle, SessionSettings(provider="cuda"))
    model = LoadedModel.open(bundle, SessionSettings(provider="cuda", require_provider=False))
    assert model.runner.provider == "CPUExecutionProvider"
    assert isinstance(model.runner, StepRunner)  # no control flow where a device was asked for
    assert isinstance(LoadedModel.open(bundle, SessionSettings(decoding="graph")).runner, SlateRunner)


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
