"""Where a process trains: on the CPU, or on a GPU of its own.

Networks are built on the CPU and moved, batches are moved as they are made, files and whatever is handed to
numpy or to other processes are on the CPU. What is random is drawn on the CPU too (`ranks.WholeBatchDraws`),
so that a seed means the same everywhere. Outside `on` everything is computed on the CPU.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.errors import RerankerError

ASKED = ("auto", "cpu", "cuda")
CPU = torch.device("cpu")

_device = CPU


class DeviceError(RerankerError):
    """A GPU is asked for, and there is none for this process."""


def device() -> torch.device:
    """Where this process computes."""
    return _device


def tensor(array: NDArray[Any]) -> Tensor:
    """An array where this process computes; on the CPU it shares its memory."""
    return torch.from_numpy(array).to(_device)


def chosen(asked: str, local_rank: int, gpus: int) -> torch.device:
    """The CPU, or the GPU that is this process's.

    Args:
        asked: one of `ASKED`; `auto` is a GPU where there is one.
        local_rank: which of the processes of this machine this is, from 0.
        gpus: how many PyTorch finds on this machine.

    Raises:
        DeviceError: there is no GPU, or none for this process.
    """
    if asked == "cpu" or (asked == "auto" and not gpus):
        return CPU
    if not gpus:
        why = "is built without CUDA" if torch.version.cuda is None else "finds none; does `nvidia-smi`?"
        raise DeviceError(
            f"--device cuda: no GPU, torch {torch.__version__} {why}; a build with CUDA and a driver "
            "are needed (https://pytorch.org/get-started/locally), or --device cpu"
        )
    if local_rank >= gpus:
        raise DeviceError(
            f"--device {asked}: more processes than GPUs on this machine, which has {gpus}; "
            f"--nproc-per-node {gpus}, or --device cpu"
        )
    return torch.device("cuda", local_rank)


def taken(asked: str) -> torch.device:
    """`chosen` by what this machine has and `torchrun` says. A GPU computes in whole float32 from then on, by
    deterministic kernels where there are any."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    own = chosen(asked, int(os.environ.get("LOCAL_RANK", "0")), gpus)
    if own.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.cuda.set_device(own)
        torch.backends.cudnn.allow_tf32 = False
        torch.use_deterministic_algorithms(True, warn_only=True)
    return own


def backend(of: torch.device) -> str:
    """What processes exchange tensors by; objects are the CPU's everywhere."""
    return "cpu:gloo,cuda:nccl" if of.type == "cuda" else "gloo"


@contextmanager
def on(where: torch.device) -> Iterator[None]:
    """Within it this process computes there."""
    global _device
    before, _device = _device, where
    try:
        yield
    finally:
        _device = before
