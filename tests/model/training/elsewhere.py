"""A GPU that is not there: tensors that say they are on it, computed by the CPU, and kept apart from its own.

Apart as PyTorch keeps them: the two do not meet in an operation, but for numbers without axes and for
indices; numpy is given none of them; cuDNN's GRU wants a contiguous state and, for gradients, training mode.
And nothing is drawn there, so that draws are the CPU's on every device. All is really computed, so that whole
trainings run, and come to what they come to on the CPU. What a GPU's own kernels make of it is another
matter.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map_only

from model.training import devices

CUDA = torch.device("cuda", 0)
DRAWS = (torch.rand, torch.randn, torch.randint, torch.randperm, torch.multinomial, torch.bernoulli)


class MixedError(Exception):
    """What PyTorch would refuse on a GPU, or what would be drawn there."""


class Elsewhere(Tensor):
    """A tensor on `CUDA`."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _called(function, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        with torch._C.DisableTorchFunction():
            copied = self.detach().clone().as_subclass(Elsewhere)
        return nn.Parameter(copied) if isinstance(self, nn.Parameter) else copied

    def __reduce_ex__(self, protocol: Any) -> Any:  # as torch stores it, and loads it onto the CPU
        with torch._C.DisableTorchFunction():
            return self.detach().as_subclass(Tensor).__reduce_ex__(protocol)


class _ThereToo(TorchFunctionMode):
    """Makes on `CUDA` what is asked for there."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _called(function, args, kwargs or {})


@contextmanager
def computing_elsewhere() -> Iterator[None]:
    """Within it a run is on `CUDA`."""
    with _ThereToo(), devices.on(CUDA):
        yield


def _called(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    there = any(isinstance(leaf, Elsewhere) for leaf in tree_iter((args, kwargs)))
    if function == Tensor.device.__get__:
        return CUDA if there else devices.CPU
    if function == torch._has_compatible_shallow_copy_type:  # whether a module that moves keeps a parameter
        return False
    moves = function in (Tensor.to, Tensor.cpu, Tensor.copy_)
    if there and not moves:
        _refuse(function, args, kwargs)
    if function == Tensor.cpu:
        there = False
    elif function == Tensor.to:
        there, args = _target(args, kwargs.pop("device", None), there)
    elif kwargs.get("device") is not None:
        there, kwargs = torch.device(kwargs["device"]).type == "cuda", {**kwargs, "device": devices.CPU}
    if there and function in DRAWS:
        raise MixedError(f"{function.__name__} draws on the GPU")
    with torch._C.DisableTorchFunction():
        kind = Elsewhere if there else Tensor
        return tree_map_only(Tensor, lambda one: _as(one, kind), function(*args, **kwargs))


def _as(tensor: Tensor, kind: type[Tensor]) -> Tensor:
    """The tensor itself where it is of that kind, so that what is written into it is not lost."""
    return tensor if isinstance(tensor, Elsewhere) == (kind is Elsewhere) else tensor.as_subclass(kind)


def _target(args: tuple[Any, ...], device: Any, there: bool) -> tuple[bool, tuple[Any, ...]]:
    """Where `Tensor.to` is to bring it, and its arguments without the place."""
    kept = []
    for argument in args[1:]:
        if isinstance(argument, Tensor):
            device = argument.device
            kept += [devices.CPU, argument.dtype]
        elif isinstance(argument, (torch.device, str)):
            device = argument
            kept.append(devices.CPU)
        else:
            kept.append(argument)
    return there if device is None else torch.device(device).type == "cuda", (args[0], *kept)


def _refuse(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises MixedError where a GPU's tensor meets what it may not."""
    name = getattr(function, "__name__", str(function))
    if function in (Tensor.numpy, Tensor.__array__):
        raise MixedError(f"{name}: numpy is given a tensor of the GPU")
    if name == "gru" and not args[1].is_contiguous():
        raise MixedError("gru: cuDNN wants its hidden state contiguous")
    if name == "gru" and torch.is_grad_enabled() and not args[6]:
        raise MixedError("gru: cuDNN has gradients in training mode alone")
    if function == F.dropout and kwargs["training"] and kwargs["p"]:
        raise MixedError("dropout draws on the GPU")
    if function in (Tensor.__getitem__, Tensor.__setitem__):  # indices may be the CPU's
        args = (args[0], *args[2:])
    for leaf in tree_iter((args, kwargs)):
        if isinstance(leaf, Tensor) and not isinstance(leaf, Elsewhere) and leaf.dim():
            raise MixedError(f"{name}: tensors of the GPU meet one of the CPU, {tuple(leaf.shape)}")
