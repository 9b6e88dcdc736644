"""ONNX Runtime sessions: how they are set up, and how a graph is opened."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from bundle.manifest import BundleError

Provider = Literal["cpu", "cuda"]
Decoding = Literal["auto", "graph", "step", "native"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

SLOWER_ON_CPU = ("SkipLayerNormFusion",)
"""Optimizers of ONNX Runtime whose result takes longer than what it replaces: an addition and a norm of
50 x 64 take 3 microseconds apart and 20 fused (ONNX Runtime 1.32)."""


class ProviderUnavailableError(BundleError):
    """The asked execution provider is not active; ONNX Runtime would have fallen back silently."""


@dataclass(frozen=True)
class SessionSettings:
    """How sessions are created, and what memory the process keeps between batches. One thread and no spinning
    suits one process a core."""

    provider: Provider = "cpu"
    decoding: Decoding = "auto"
    intra_op_threads: int = 1
    spinning: bool = False
    require_provider: bool = True
    keep_freed_mib: int = 256


def session_options(intra_op_threads: int = 1, spinning: bool = False) -> ort.SessionOptions:
    """Operators one after another, each on so many threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    return options


def open_session(path: Path, settings: SessionSettings) -> ort.InferenceSession:
    """Load a graph.

    Raises:
        BundleError: ONNX Runtime cannot load it.
        ProviderUnavailableError: the provider is not active and `require_provider` is set.
    """
    options = session_options(settings.intra_op_threads, settings.spinning)
    wanted = PROVIDERS[settings.provider]
    providers = [p for p in (wanted, PROVIDERS["cpu"]) if p in ort.get_available_providers()]
    slower = SLOWER_ON_CPU if wanted == PROVIDERS["cpu"] else ()
    try:
        session = ort.InferenceSession(
            path, options, providers=list(dict.fromkeys(providers)), disabled_optimizers=slower
        )
    except Exception as error:
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    if settings.require_provider and session.get_providers()[0] != wanted:
        raise ProviderUnavailableError(
            f"{wanted} was asked for but {session.get_providers()[0]} is active; install onnxruntime-gpu "
            "with a matching CUDA, or allow the fallback"
        )
    return session
