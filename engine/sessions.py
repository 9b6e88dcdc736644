"""ONNX Runtime sessions: how they are set up, and how a graph is opened."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from bundle.manifest import BundleError
from engine.settings import SessionSettings

__all__ = ["ort"]  # for whoever needs ONNX Runtime itself: imported from here, it is told to keep to itself

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

SLOWER_ON_CPU = ("SkipLayerNormFusion",)
"""Optimizers of ONNX Runtime whose result takes longer than what it replaces: an addition and a norm of
50 x 64 take 3 microseconds apart and 20 fused (ONNX Runtime 1.32)."""


class ProviderUnavailableError(BundleError):
    """The asked execution provider is not active; ONNX Runtime would have fallen back silently."""


def session_options(settings: SessionSettings) -> ort.SessionOptions:
    """Operators one after another."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
    return options


def open_session(
    path: Path,
    settings: SessionSettings,
    *,
    axes: Mapping[str, int] | None = None,
    captured: bool = False,
) -> ort.InferenceSession:
    """Load a graph.

    Args:
        axes: sizes of axes that would be free; what computes shapes is then computed once.
        captured: on CUDA, the first run of each `gpu_graph_id` is captured as a CUDA graph, which the others
            replay. Inputs and outputs must then be where they were.

    Raises:
        BundleError: ONNX Runtime cannot load it.
        ProviderUnavailableError: the provider is not active and `require_provider` is set.
    """
    options = session_options(settings)
    for axis, size in (axes or {}).items():
        options.add_free_dimension_override_by_name(axis, size)
    wanted = PROVIDERS[settings.provider]
    providers = [p for p in (wanted, PROVIDERS["cpu"]) if p in ort.get_available_providers()]
    slower = SLOWER_ON_CPU if wanted == PROVIDERS["cpu"] else ()
    with_graphs = {"enable_cuda_graph": "1"} if captured else {}
    told = [with_graphs if name == PROVIDERS["cuda"] else {} for name in dict.fromkeys(providers)]
    try:
        session = ort.InferenceSession(
            path,
            options,
            providers=list(dict.fromkeys(providers)),
            provider_options=told,
            disabled_optimizers=slower,
        )
    except Exception as error:
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    if settings.require_provider and session.get_providers()[0] != wanted:
        raise ProviderUnavailableError(
            f"{wanted} was asked for but {session.get_providers()[0]} is active; install onnxruntime-gpu "
            "with a matching CUDA, or allow the fallback"
        )
    return session
