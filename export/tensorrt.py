"""Whether TensorRT could take a bundle's graphs: `python -m export.tensorrt BUNDLE`, without a GPU.

Each graph is given fixed sizes, as `engine.fixed_shapes` runs it; what ONNX Runtime can compute before the
first run is computed; of the rest every shape must be known, and every operator be on the published list, for
the types and under the conditions that it states. The slate graph, a Loop of unknown length, is no candidate.
Source: the list of operators of onnx-tensorrt 10.1.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from bundle.errors import RerankerError
from bundle.manifest import ENCODER, STEP, read_manifest
from bundle.repository import locate
from engine.fixed_shapes import Bucket
from engine.sessions import ort

GRAPHS = ENCODER, STEP
OPSETS = range(9, 21)
FLOATS: set[int] = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
NUMBERS = FLOATS | {TensorProto.INT32, TensorProto.INT64}
ANY = NUMBERS | {TensorProto.BOOL}
BOOL: set[int] = {TensorProto.BOOL}

TYPES: dict[str, set[int]] = {
    **dict.fromkeys(("And", "Or", "Not", "Xor"), BOOL),
    **dict.fromkeys(
        (
            *(
                "Clip",
                "Exp",
                "Log",
                "LogSoftmax",
                "Softmax",
                "Sigmoid",
                "Tanh",
                "Gemm",
                "MatMul",
                "Erf",
                "Sqrt",
            ),
            *("LayerNormalization", "Pow", "Softplus", "CumSum", "GRU", "LSTM"),
        ),
        FLOATS,
    ),
    **dict.fromkeys(
        (
            *("Abs", "Add", "ArgMax", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
            *("Max", "Min", "Mod", "Mul", "Neg", "Range", "ReduceMax", "ReduceMean", "ReduceMin"),
            *("ReduceSum", "Relu", "ScatterElements", "Sign", "Sub", "Sum", "TopK", "Gelu", "Pad"),
        ),
        NUMBERS,
    ),
    **dict.fromkeys(
        (
            *(
                "Cast",
                "Concat",
                "Constant",
                "ConstantOfShape",
                "Expand",
                "Flatten",
                "Gather",
                "GatherElements",
            ),
            *("Identity", "OneHot", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Tile", "Transpose"),
            *("Trilu", "Unsqueeze", "Where"),
        ),
        ANY,
    ),
}
"""Operators that are taken, and types of what they compute on: their first input that is no condition."""

CONSTANT_INPUTS = {"Squeeze": 1, "Unsqueeze": 1, "ReduceSum": 1, "ReduceMax": 1, "ReduceMean": 1, "Slice": 3}
"""Inputs that must be known when the engine is built: axes."""

COMPUTES_ON = {"Where": 1}
"""Which input has the type; the first, where it is not named."""


def fixed(graph: Path, bucket: Bucket) -> ModelProto:
    """The graph in these sizes, with nothing left that can be computed before it runs."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    for axis, size in bucket._asdict().items():
        options.add_free_dimension_override_by_name(axis, size)
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / graph.name)
        ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    del model.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def problems(model: ModelProto) -> Iterator[str]:
    """What TensorRT would refuse, in the order of the graph."""
    (opset,) = (one.version for one in model.opset_import if one.domain == "")
    if opset not in OPSETS:
        yield f"opset {opset}: {OPSETS[0]} to {OPSETS[-1]} are taken"
    graph = model.graph
    types = {one.name: one.data_type for one in graph.initializer}
    constants = set(types) | {out for node in graph.node if node.op_type == "Constant" for out in node.output}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
        if not value.type.tensor_type.HasField("shape"):
            yield f"{value.name}: its shape is not known"
        elif any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
            yield f"{value.name}: a size of it is not known"
    for node in graph.node:
        yield from _of(node, types, constants)


def _of(node: NodeProto, types: dict[str, int], constants: set[str]) -> Iterator[str]:
    name = f"{node.op_type} {node.name}"
    if node.domain not in ("", "ai.onnx") or node.op_type not in TYPES:
        yield f"{name}: not on the list"
        return
    place = COMPUTES_ON.get(node.op_type, 0)
    computed = types.get(node.input[place]) if len(node.input) > place else None
    if computed is not None and computed not in TYPES[node.op_type]:
        yield f"{name}: not for {TensorProto.DataType.Name(computed)}"
    axes = CONSTANT_INPUTS.get(node.op_type)
    if axes is not None and len(node.input) > axes and node.input[axes] not in constants | {""}:
        yield f"{name}: its axes are computed"
    if node.op_type == "LayerNormalization" and any(node.output[1:]):
        yield f"{name}: outputs beyond the first"


def check(bundle: Path, bucket: Bucket) -> dict[str, list[str]]:
    """Problems of each graph."""
    return {name: list(problems(fixed(bundle / name, bucket))) for name in GRAPHS}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m export.tensorrt", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path)
    bundle = parser.parse_args().bundle
    bucket = Bucket(16, 64, 64, 1)
    try:
        bundle = locate(bundle)
        read_manifest(bundle)
        found = check(bundle, bucket)
    except RerankerError as error:
        print(error, file=sys.stderr)
        return 2
    for graph, lines in found.items():
        print(f"{graph} at {bucket}: {len(lines) or 'no'} problem{'' if len(lines) == 1 else 's'}")
        for line in lines:
            print(f"  {line}")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
