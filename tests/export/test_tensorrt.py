"""Graphs against TensorRT's published list: ours pass, and what it has not is found."""

from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from tiny_bundle import tiny_features, tiny_policy

from bundle.manifest import ENCODER, STEP, GateKind
from engine.fixed_shapes import Bucket
from export.step_graph import export_step
from export.tensorrt import check, fixed, problems

BUCKET = Bucket(4, 64, 16, 1)


def test_the_exported_graphs_could_be_taken(bundle: Path) -> None:
    assert check(bundle, BUCKET) == {ENCODER: [], STEP: []}


@pytest.mark.parametrize(("reasoner", "gate"), [("paper", "margin"), ("pause", "raw")])
def test_so_could_steps_of_other_policies(tmp_path: Path, reasoner: str, gate: GateKind) -> None:
    step = export_step(tiny_policy(tiny_features(), reasoner, gate=gate))
    onnx.save(step, tmp_path / STEP)
    assert list(problems(fixed(tmp_path / STEP, BUCKET))) == []


def test_no_shape_is_computed_in_fixed_sizes(bundle: Path) -> None:
    free = {node.op_type for node in onnx.load(bundle / STEP).graph.node}
    assert "Shape" in free
    assert "Shape" not in {node.op_type for node in fixed(bundle / STEP, BUCKET).graph.node}


def model(*nodes: onnx.NodeProto, size: int | str = 4, kind: int = TensorProto.INT64) -> ModelProto:
    """From `x` to `y`."""
    ends = [helper.make_tensor_value_info(name, kind, [size]) for name in ("x", "y")]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (model(helper.make_node("Clip", ["x", "", "axes"], ["y"], "c")), "Clip c: not for INT64"),
        (model(helper.make_node("BitwiseNot", ["x"], ["y"], "b")), "BitwiseNot b: not on the list"),
        (model(helper.make_node("Identity", ["x"], ["y"], "i"), size="N"), "x: a size of it is not known"),
        (model(helper.make_node("Squeeze", ["x", "x"], ["y"], "s")), "Squeeze s: its axes are computed"),
        (model(helper.make_node("Relu", ["x"], ["y"], "r", domain="com.x")), "Relu r: not on the list"),
    ],
)
def test_what_it_has_not_is_told(made: ModelProto, told: str) -> None:
    assert next(problems(made)) == told


def test_another_opset_is_told() -> None:
    made = model(helper.make_node("Relu", ["x"], ["y"], "r"))
    made.opset_import[0].version = 21
    assert list(problems(made)) == ["opset 21: 9 to 20 are taken"]
