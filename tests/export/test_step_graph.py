"""The exported graphs: names, axes, control flow, and parity that can fail."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from tiny_bundle import TinyBundles, tiny_calibration, tiny_config, tiny_features, tiny_policy

from bundle.contract import CONTROLS, COUNTERS, ENCODER_INPUTS, LOGITS, MEMORY, RECORD
from bundle.manifest import (
    ENCODER,
    SLATE,
    STEP,
    read_manifest,
)
from engine.graphs import StepRunner
from engine.loaded_model import LoadedModel
from engine.settings import SessionSettings
from examples import own_decoder
from export.parity import TorchRunner, check_bundle, compare, random_requests
from export.writer import Trained, write_bundle

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's libraries warn of each other

OTHERS = [
    ("deep", 1, "normalised", "gru"),
    ("paper", 0, "raw", "gru"),
    ("pause", 0, "normalised", "gru"),
    ("deep", 0, "raw", "lstm"),
    ("deep", 0, "margin", "transformer"),
    ("deep", 0, "normalised", "minimal"),
    ("none", 0, "normalised", "gru"),
]
MORE = [
    ("paper", 0, "normalised", "lstm"),
    ("paper", 0, "normalised", "transformer"),
    ("none", 0, "normalised", "lstm"),
    ("none", 0, "normalised", "transformer"),
]
assert own_decoder.DECODERS["minimal"]  # importing the example adds its decoder


@pytest.fixture(
    scope="module",
    params=[*OTHERS, *(pytest.param(more, marks=pytest.mark.slow) for more in MORE)],
    ids=lambda other: "-".join(map(str, other)),
)
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
    assert [o.name for o in encoder.output] == [
        *(spec.name for spec in MEMORY),
        *(f"past_{name}" for name in state if name not in {spec.name for spec in COUNTERS}),
    ]
    assert list(axes(step.input)) == [
        *(spec.name for spec in MEMORY),
        *(f"past_{name}" for name in state),
        *(spec.name for spec in CONTROLS),
    ]
    dtypes = {value.name: value.type.tensor_type.elem_type for value in (*step.input, *step.output)}
    for spec in manifest.state_specs():
        expected = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        assert dtypes[f"past_{spec.name}"] == dtypes[f"present_{spec.name}"] == expected
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
        f"{path}, {kind}"
        for path in ("slate graph", "step graph", "native")
        for kind in ("random", "constrained", "long")
    }
    assert results["step graph, random"].difference < 1e-4


def test_other_policies_agree_with_torch(other_bundle: Path) -> None:
    check_bundle(other_bundle, random=150, real=0)


@pytest.mark.parametrize(
    ("layers", "attention"), [(0, "full"), pytest.param(1, "full", marks=pytest.mark.slow), (2, "inducing")]
)
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


def reasoner_weights(bundle: Path) -> list[str]:
    return [
        weights.name for weights in onnx.load(bundle / STEP).graph.initializer if "reasoner" in weights.name
    ]


def test_trained_without_reasoning_never_reasons(bundle: Path, tiny_bundles: TinyBundles) -> None:
    """Nor is there anything in its graph to reason with."""
    directory = tiny_bundles("none")
    model = LoadedModel.open(directory)
    requests = random_requests(model.features, model.manifest, 60)
    assert any(control.reasoning_budget for _, control in requests)
    slates = [model.generate([arrays], [control])[0] for arrays, control in requests]
    assert all(len(s.positions) == c.slate_length for s, (_, c) in zip(slates, requests, strict=True))
    assert not any(position.reasoning_tokens for slate in slates for position in slate.positions)
    assert reasoner_weights(bundle)
    assert not reasoner_weights(directory)
