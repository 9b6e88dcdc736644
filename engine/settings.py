"""How a bundle is run. Knows nothing of ONNX Runtime, so that who only configures need not load it."""

from dataclasses import dataclass
from typing import Literal

Provider = Literal["cpu", "cuda"]
Decoding = Literal["auto", "graph", "step", "native"]


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
