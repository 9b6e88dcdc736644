"""From a PyTorch module to an ONNX graph whose inputs are the contract's, with their names and axes."""

import logging
import warnings
from collections.abc import Iterable, Mapping

import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.export import Dim

from bundle.contract import OPSET, TensorSpec
from model.encoder import FeatureSizes

EXAMPLE_SIZES = {"B": 3, "N": 7, "H": 5, "P": 4, "L": 6}
"""Sizes of the traced example: all different, none 0 or 1, which tracing would take for constants."""


def feature_axes(sizes: FeatureSizes) -> dict[str, int]:
    """The axes of `ENCODER_INPUTS` that the features fix."""
    return {
        "numeric": sizes.numeric,
        "item_numeric": sizes.item_numeric,
        "slots": len(sizes.slot_fields),
        "user_numeric": sizes.user_numeric,
        "user_slots": sizes.user_slots,
    }


def sized(specs: Iterable[TensorSpec], axes: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    """Contract tensors with some of their axes fixed."""
    fixed: dict[str | int, int] = dict(axes.items())
    return tuple(spec._replace(axes=tuple(fixed.get(axis, axis) for axis in spec.axes)) for spec in specs)


def traced(graph: nn.Module, inputs: tuple[TensorSpec, ...], outputs: list[str]) -> ModelProto:
    """The graph under opset `OPSET`. Raises RuntimeError where an input is not as its spec has it."""
    dims = {axis: Dim(axis, min=1) for axis in EXAMPLE_SIZES}
    shapes = tuple(
        {i: dims[axis] for i, axis in enumerate(spec.axes) if isinstance(axis, str)} for spec in inputs
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(),
            tuple(_example(spec) for spec in inputs),
            dynamo=True,
            dynamic_shapes=(shapes,),
            input_names=[spec.name for spec in inputs],
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _check_inputs(type(graph).__name__, model, inputs)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    return model


def _check_inputs(graph: str, model: ModelProto, inputs: tuple[TensorSpec, ...]) -> None:
    """Tracing drops an unused input and turns an axis it could not keep symbolic into a constant, both
    without a word. Raises RuntimeError for either."""
    found = {
        value.name: tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in model.graph.input
    }
    for spec in inputs:
        if found.get(spec.name) != spec.axes:
            raise RuntimeError(
                f"{graph}: input {spec.name} was exported with axes {found.get(spec.name)}, "
                f"the step contract says {spec.axes}"
            )


def _example(spec: TensorSpec) -> Tensor:
    shape = [EXAMPLE_SIZES[axis] if isinstance(axis, str) else axis for axis in spec.axes]
    if spec.dtype == "float32":
        return torch.ones(shape)
    return torch.ones(shape, dtype=getattr(torch, spec.dtype))
