"""A policy as three ONNX graphs under the step contract.

- encoder: features to memory and the initial decoder state;
- step: one micro-step, state in and state out (the reference, and the path for accelerators);
- slate: the encoder and a Loop whose body is that same step, for one call a batch on the CPU.

Knows nothing of bundles. Legend: B requests, N candidates, H history events, P noise positions.
"""

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper
from torch import Tensor, nn

from bundle.contract import (
    CONTROLS,
    COUNTERS,
    ENCODER_INPUTS,
    LOGITS,
    MEMORY,
    RECORD,
    SELECTABLE,
    StepControls,
    TensorSpec,
    past,
    present,
    state,
)
from export.folded_encoder import FoldedEncoder
from export.tracing import feature_axes, sized, traced
from model.encoder import Memory
from model.policy import Policy, StepState

ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


class EncoderGraph(nn.Module):
    """`ENCODER_INPUTS` in; `MEMORY` and the initial decoder state and readout out."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy, self.encoder = policy, FoldedEncoder(policy.encoder)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        named = {spec.name: tensor for spec, tensor in zip(ENCODER_INPUTS, inputs, strict=True)}
        memory = self.encoder(**named)
        start = self.policy.begin(memory, named["candidate_mask"])
        return (*memory, *(tensor.clone() for tensor in (*start.decoder, start.readout)))


class StepGraph(nn.Module):
    """`MEMORY`, past state and `CONTROLS` in; present state, `RECORD` and `LOGITS` out."""

    def __init__(self, policy: Policy, state_size: int) -> None:
        super().__init__()
        self.policy, self.state_size = policy, state_size

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        memory = Memory(*inputs[: len(MEMORY)])
        past_state = StepState.unflatten(inputs[len(MEMORY) : len(MEMORY) + self.state_size])
        controls = StepControls(*inputs[len(MEMORY) + self.state_size :])
        present_state, record, logits = self.policy.micro_step(past_state, controls, memory)
        return (*present_state.flatten(), *record, logits)


def state_specs(policy: Policy) -> tuple[TensorSpec, ...]:
    """The step state of this policy."""
    return _sized(state(policy.decoder.state_axes), policy)


def memory_specs(policy: Policy) -> tuple[TensorSpec, ...]:
    """The memory of this policy."""
    return _sized(MEMORY, policy)


def export_encoder(policy: Policy) -> ModelProto:
    """The encoder graph."""
    start = [spec for spec in state_specs(policy) if spec.name not in {c.name for c in COUNTERS}]
    outputs = [spec.name for spec in MEMORY] + [past(spec.name) for spec in start]
    return traced(EncoderGraph(policy), _sized(ENCODER_INPUTS, policy), outputs)


def export_step(policy: Policy) -> ModelProto:
    """The stateful step graph: the reasoning loop unrolled into explicit state."""
    specs = state_specs(policy)
    inputs = (
        *memory_specs(policy),
        *(spec._replace(name=past(spec.name)) for spec in specs),
        *CONTROLS,
    )
    outputs = [present(spec.name) for spec in specs] + [spec.name for spec in (*RECORD, LOGITS)]
    return traced(StepGraph(policy, len(specs)), inputs, outputs)


def compose_slate(encoder: ModelProto, step: ModelProto, specs: tuple[TensorSpec, ...]) -> ModelProto:
    """The slate graph out of the two others.

    Inputs are `ENCODER_INPUTS` and `CONTROLS`; outputs are `RECORD` stacked over micro-steps, `[M, B]`.
    The Loop ends when every slate is full. The step's weights, and those of its nodes that would compute the
    same in every micro-step, stand outside it.
    """
    body = _prefixed(step.graph, "step/", keep=_names(step.graph.input) | _names(step.graph.output))
    outer = GraphProto()
    outer.CopyFrom(encoder.graph)
    counters = {spec.name for spec in COUNTERS}

    zeros = [
        helper.make_node("Shape", ["slate_length"], ["slate/batch"]),
        helper.make_node(
            "ConstantOfShape",
            ["slate/batch"],
            ["slate/zeros"],
            value=helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        ),
        _constant("slate/true", TensorProto.BOOL, True),
    ]
    starts = {spec.name: "slate/zeros" if spec.name in counters else past(spec.name) for spec in specs}
    starts[SELECTABLE.name] = "candidate_mask"

    given = _names(body.initializer) | {spec.name for spec in (*MEMORY, *CONTROLS)}
    begins = {past(name): start for name, start in starts.items()}
    always, each_step = _hoisted(body.node, given, begins, stay=_names(body.output))

    loop_body = GraphProto(name="micro_step")
    loop_body.input.append(helper.make_tensor_value_info("slate/iteration", TensorProto.INT64, []))
    loop_body.input.append(helper.make_tensor_value_info("slate/going", TensorProto.BOOL, []))
    loop_body.input.extend(_value_info(spec, past(spec.name)) for spec in specs)
    loop_body.node.extend(each_step)
    loop_body.node.extend(
        [
            helper.make_node("Less", [present("position"), "slate_length"], ["slate/writing"]),
            helper.make_node("Cast", ["slate/writing"], ["slate/writing_int"], to=TensorProto.INT32),
            helper.make_node("ReduceMax", ["slate/writing_int"], ["slate/any"], keepdims=0),
            helper.make_node("Cast", ["slate/any"], ["slate/continue"], to=TensorProto.BOOL),
        ]
    )
    loop_body.output.append(helper.make_tensor_value_info("slate/continue", TensorProto.BOOL, []))
    loop_body.output.extend(_value_info(spec, present(spec.name)) for spec in specs)
    loop_body.output.extend(_value_info(spec, spec.name) for spec in RECORD)

    finals = [f"slate/final_{spec.name}" for spec in specs]
    stacked = [f"slate/{spec.name}" for spec in RECORD]
    loop = helper.make_node(
        "Loop",
        ["", "slate/true", *(starts[spec.name] for spec in specs)],
        [*finals, *stacked],
        name="slate/loop",
        body=loop_body,
    )
    outer.initializer.extend(body.initializer)
    outer.node.extend([*zeros, *always, loop])
    outer.node.extend(
        helper.make_node("Identity", [name], [spec.name]) for name, spec in zip(stacked, RECORD, strict=True)
    )
    outer.input.extend(_value_info(spec, spec.name) for spec in CONTROLS)
    del outer.output[:]
    outer.output.extend(_value_info(spec._replace(axes=("M", "B")), spec.name) for spec in RECORD)
    del outer.value_info[:]
    model = helper.make_model(outer, opset_imports=encoder.opset_import, ir_version=encoder.ir_version)
    onnx.checker.check_model(model, full_check=True)
    return model


def _sized(specs: Iterable[TensorSpec], policy: Policy) -> tuple[TensorSpec, ...]:
    return sized(specs, _axes(policy))


def _axes(policy: Policy) -> dict[str, int]:
    """The axes that this policy fixes."""
    blocks, columns = policy.reasoner.memory_blocks
    return {"D": policy.config.width, "R": blocks, "E": columns, **feature_axes(policy.sizes)}


def _names(values: Iterable[Any]) -> set[str]:
    return {value.name for value in values}


def _prefixed(graph: GraphProto, prefix: str, keep: set[str]) -> GraphProto:
    """A copy whose inner names cannot clash with another graph's. Step graphs hold no subgraphs."""

    def renamed(name: str) -> str:
        return name if not name or name in keep else prefix + name

    copy = GraphProto()
    copy.CopyFrom(graph)
    for initializer in copy.initializer:
        initializer.name = renamed(initializer.name)
    for node in copy.node:
        node.name = prefix + node.name
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    return copy


def _hoisted(
    nodes: Iterable[NodeProto], given: set[str], starts: dict[str, str], stay: set[str]
) -> tuple[list[NodeProto], list[NodeProto]]:
    """Nodes that compute the same in every micro-step, and the others; both in order.

    Args:
        given: names that stay what they are.
        starts: what each state tensor is before the first micro-step; a state tensor keeps its shape.
        stay: outputs of the loop's body, which a node inside has to write.
    """
    always: list[NodeProto] = []
    each_step: list[NodeProto] = []
    known = given | {""}
    for node in nodes:
        if node.op_type == "Shape" and node.input[0] in starts:
            node.input[0] = starts[node.input[0]]
            known.add(node.input[0])
        if known.issuperset(node.input) and stay.isdisjoint(node.output):
            always.append(node)
            known.update(node.output)
        else:
            each_step.append(node)
    return always, each_step


def _value_info(spec: TensorSpec, name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[spec.dtype], list(spec.axes))


def _constant(name: str, element_type: int, value: bool | int) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, element_type, [], [value]))
