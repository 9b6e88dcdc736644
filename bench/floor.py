"""The arithmetic floor: the time of a request if it consisted only of its matrix products, each at the speed
of a large one.

Multiplications are counted in the bundle's reference graphs: for each MatMul and Gemm, the size of its
result times what is summed over, at the sizes of a real request. A micro-step counts as scoring plus the
one of its two branches that was taken. The rate is that of ONNX Runtime's own product of two large
matrices on one thread, measured in the same run. Softmax, gathers and norms are not counted.

Legend: B requests, N candidates, K slate length.
"""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from time import thread_time
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, shape_inference

from bundle.contract import CONTROLS, LOGITS, OPSET, RECORD, present
from bundle.manifest import ENCODER, STEP
from engine.generation import Slate
from engine.graphs import first_counters
from engine.sessions import ort, session_options
from engine.settings import SessionSettings

SIDE = 512
"""Of the two square matrices: large enough to run at full speed, small enough for the second-level cache."""


class Products(NamedTuple):
    """Multiply-adds of one request at one size: of its encoding, and of one micro-step's parts."""

    encoder: int
    score: int
    commit: int
    reason: int

    def of(self, slate: Slate) -> int:
        """Multiply-adds of a slate as it was written."""
        items, tokens = len(slate.positions), slate.reasoning_tokens
        return self.encoder + slate.micro_steps * self.score + items * self.commit + tokens * self.reason


def count(bundle: Path, inputs: Mapping[str, NDArray[Any]], controls: Mapping[str, NDArray[Any]]) -> Products:
    """Count what one request (B = 1) multiplies."""
    encoder, step = onnx.load(bundle / ENCODER), onnx.load(bundle / STEP)
    encoded = _run(encoder, inputs)
    names = {value.name for value in step.graph.input}
    counters = first_counters(inputs["candidate_mask"])
    known = {**encoded, **counters, **{spec.name: controls[spec.name] for spec in CONTROLS}}
    feed = {name: known[name] for name in names}
    scored = _ancestors(step.graph, [spec.name for spec in (*RECORD, LOGITS)])
    thought, committed = _branches(step.graph)
    return Products(
        encoder=_products(encoder, inputs, None),
        score=_products(step, feed, scored),
        commit=_products(step, feed, committed - scored),
        reason=_products(step, feed, thought - scored),
    )


def sgemm_gflops(seconds: float = 0.02) -> float:
    """Billions of floating-point operations a second of one large product on one thread; the best of those
    that fit into the time, because disturbances only slow it down."""
    shape, kind = [SIDE, SIDE], TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "sgemm",
        [helper.make_tensor_value_info(name, kind, shape) for name in "ab"],
        [helper.make_tensor_value_info("c", kind, shape)],
    )
    session = _session(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    )
    feed = {name: np.random.default_rng(0).random(shape, np.float32) for name in "ab"}
    best, until = float("inf"), thread_time() + seconds
    while thread_time() < until:
        started = thread_time()
        session.run(None, feed)
        best = min(best, thread_time() - started)
    return 2.0 * SIDE**3 / best / 1e9


def floor_us(products: Products, slates: Sequence[Slate], gflops: float) -> float:
    """Microseconds a request of these slates at that rate."""
    return 2.0 * float(np.mean([products.of(slate) for slate in slates])) / gflops / 1e3


def _session(model: ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(
        model.SerializeToString(), session_options(SessionSettings()), providers=["CPUExecutionProvider"]
    )


def _run(model: ModelProto, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = [output.name for output in model.graph.output]
    return dict(zip(names, _session(model).run(names, dict(feed)), strict=True))


def _products(model: ModelProto, feed: Mapping[str, NDArray[Any]], among: set[str] | None) -> int:
    """Multiply-adds of the MatMul and Gemm nodes (those whose output is among the names, if given)."""
    nodes = [
        node
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and (among is None or node.output[0] in among)
    ]
    shapes = _shapes(model, feed, {name for node in nodes for name in (node.input[0], node.output[0])})
    return sum(prod(shapes[node.output[0]]) * shapes[node.input[0]][_summed_axis(node)] for node in nodes)


def _summed_axis(node: NodeProto) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return 0 if transposed else -1


def _shapes(
    model: ModelProto, feed: Mapping[str, NDArray[Any]], names: set[str]
) -> dict[str, tuple[int, ...]]:
    """Shapes of inner tensors, found by running the graph with them as outputs."""
    watched = shape_inference.infer_shapes(model)
    kinds = {value.name: value for value in watched.graph.value_info}
    given = {value.name for value in (*model.graph.output, *model.graph.initializer)} | set(feed)
    watched.graph.output.extend(kinds[name] for name in sorted(names - given))
    found = {name: tuple(value.shape) for name, value in _run(watched, feed).items()}
    found |= {name: value.shape for name, value in feed.items()}
    return found | {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def _ancestors(graph: GraphProto, names: Sequence[str]) -> set[str]:
    """Tensors that these are computed from, themselves included."""
    producer = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += producer[name].input if name in producer else []
    return found


def _branches(graph: GraphProto) -> tuple[set[str], set[str]]:
    """What the readout is computed from in a micro-step that reasons, and in one that commits."""
    name = present("readout")
    (choice,) = (node for node in graph.node if name in node.output)
    if choice.op_type != "Where":  # trained without reasoning
        return set(), _ancestors(graph, [name])
    _, thought, committed = choice.input
    return _ancestors(graph, [thought]), _ancestors(graph, [committed])
