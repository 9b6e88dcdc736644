"""Training shared out over processes, as `torchrun` starts them on one machine or several.

Every process holds the whole log and the whole model, and computes its own rows of each batch; losses and
gradients are added up over all of them, so that the mathematics is that of one process with the same batch,
and every process makes the same step. What is random is drawn for the whole batch by all and cut to the own
rows, on the CPU, so that neither their number nor a GPU changes it. Searches and decoding are cut into
batches, which the processes take in turns. Only the first process, rank 0, keeps what is written and tells
what happens. In a process alone on the CPU nothing of this does anything.

Legend: B rows of a batch.
"""

import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.distributed.rendezvous import rendezvous
from torch.overrides import TorchFunctionMode

from bundle.errors import RerankerError
from model.progress import console, progress
from model.training import devices

TIMEOUT_S = 600.0
"""How long a process waits for the others before it takes them for lost."""

NOTICED_S = 1.0
"""How long one that fails because of another lives on: torchrun, which looks ten times a second, blames the
first that it sees end."""

STOPPED = "stopped; the same command goes on from the last epoch"

T = TypeVar("T")
R = TypeVar("R")


class RanksError(RerankerError):
    """The processes of a training do not find each other, are lost, or do not have the same before them."""


class LostError(RanksError):
    """Others of them have ended, or do not answer."""


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined(timeout_s: float = TIMEOUT_S, asked: str = "cpu") -> Iterator[None]:
    """Together with the other processes of the launch, if this is one of several. The first that fails tells
    why; the others, which fail because of it or with it, say nothing.

    Args:
        asked: where to compute, one of `devices.ASKED`.

    Raises:
        SystemExit: this process of several failed.
        DeviceError: no GPU for this process.
        RanksError: the others cannot be found, or compute on other devices.
    """
    with devices.on(devices.taken(asked)):
        yield from _joined(timeout_s)


def _joined(timeout_s: float) -> Iterator[None]:
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield
        return
    timeout = timedelta(seconds=timeout_s)
    try:
        store, own, count = next(rendezvous("env://", timeout=timeout))
        # torchrun's store outlives a restart, and would answer with addresses of processes that are gone.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt {attempt} of {count}", store)  # type: ignore[attr-defined]
        alike(store, own, count, devices.device().type)
        dist.init_process_group(
            devices.backend(devices.device()), store=store, rank=own, world_size=count, timeout=timeout
        )
    except (RuntimeError, ValueError) as error:  # DistError among them
        address = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise RanksError(f"the other processes are not found by way of {address}: {error}") from None
    console.quiet = own != 0
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if _tell(error, store) and not isinstance(error, LostError):
            get_error_handler().record_exception(error)  # for torchrun's own report
        else:
            time.sleep(NOTICED_S)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # what waits for the others in the background would hold the interpreter's own end up
    finally:
        console.quiet = False
    dist.destroy_process_group()


def alike(store: Any, own: int, count: int, kind: str) -> None:
    """Raises RanksError if not all of `count` processes compute on one kind of device."""
    store.set(f"device {own}", kind)
    for number in range(count):
        other = store.get(f"device {number}").decode()
        if other != kind:
            raise RanksError(
                f"process {own} trains on {kind} and process {number} on {other}: GPUs for all of them, or "
                "--device cpu"
            )


def _tell(error: BaseException, store: Any) -> bool:
    """On stderr, unless another process fails already. Returns whether none does."""
    where = f"process {rank()} of {world()}, on {socket.gethostname()}"
    try:
        if store.add("failed", 1) > 1:
            return False
    except RuntimeError:
        print(f"{where}: ends, because the first has ended", file=sys.stderr)
        return False
    if isinstance(error, KeyboardInterrupt):
        print(f"{where}: {STOPPED}", file=sys.stderr)
    elif isinstance(error, (RerankerError, ValueError)):
        print(f"{where}: {error}", file=sys.stderr)
    else:
        print(f"{where}:", file=sys.stderr)
        traceback.print_exception(error)
    return True


@contextmanager
def directory(run: Path) -> Iterator[Path]:
    """Where this process writes: the run's directory in the first, elsewhere for a while in the others, so
    that the run need not be on every machine."""
    if rank() == 0:
        yield run
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def from_first(value: T) -> T:
    """What the first process has, for all."""
    if world() == 1:
        return value
    found: list[Any] = [value]
    with _waiting():
        dist.broadcast_object_list(found)
    return found[0]


def same(value: T, what: str) -> T:
    """The value, which all must have.

    Raises:
        RanksError: they do not.
    """
    if world() == 1:
        return value
    found = _gathered((socket.gethostname(), value))
    for number, (host, other) in enumerate(found):
        if other != found[0][1]:
            raise RanksError(
                f"{what}: process 0 on {found[0][0]} and process {number} on {host} do not have the same "
                f"({found[0][1]!s:.64} and {other!s:.64}); every machine needs its own copy at the same path"
            )
    return value


def align(module: nn.Module) -> None:
    """Give all processes the first one's weights: rounding of unlike machines does not add up."""
    if world() > 1:
        with _waiting():
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)


def spread(work: Sequence[T], do: Callable[[T], R], description: str | None = None) -> list[R]:
    """What is done with each piece of the work, in its order; every process does its part and has it all."""
    own: Iterable[T] = work[rank() :: world()]
    own = progress(own, description, len(work[rank() :: world()])) if description else own
    done = [do(piece) for piece in own]
    if world() == 1:
        return done
    parts = _gathered(done)
    return [parts[place % world()][place // world()] for place in range(len(work))]


def _gathered(value: T) -> list[T]:
    found: list[Any] = [None] * world()
    with _waiting():
        dist.all_gather_object(found, value)
    return found


@contextmanager
def _waiting() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostError(f"the other processes are lost: {str(error).splitlines()[0]}") from None


class Share:
    """This process's rows of a batch. Where there are fewer rows than processes, one without a row of its own
    computes one of another's, which then counts nothing."""

    def __init__(self, size: int) -> None:
        start, stop = (size * place // world() for place in (rank(), rank() + 1))
        self.size, self.counts = size, start < stop
        self.rows = slice(start, max(stop, start + 1))

    @contextmanager
    def draws(self) -> Iterator[None]:
        """Within it, whatever torch draws at random for the rows is cut from a draw for the whole batch, by
        the CPU."""
        if world() == 1 and devices.device() == devices.CPU:
            yield
            return
        with WholeBatchDraws(self.size, self.rows):
            yield

    def mean(self, value: Tensor, weight: Tensor | float) -> tuple[float, float]:
        """The whole batch's mean of a value that is the mean of this part, over so much weight; and the
        share of this part in it. Weights below 1 count as 1: a mean over nothing is nothing."""
        if world() == 1:
            return value.item(), 1.0
        own = float(weight) if self.counts else 0.0
        total = torch.tensor([value.item() * max(own, 1.0) if self.counts else 0.0, own], dtype=torch.float64)
        with _waiting():
            dist.all_reduce(total)
        whole = max(float(total[1]), 1.0)
        return float(total[0]) / whole, max(own, 1.0) / whole if self.counts else 0.0

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gradients added up over the processes; one that nobody has stays None."""
        if world() == 1:
            return
        learned = [parameter for parameter in parameters if parameter.requires_grad]
        there = torch.tensor([float(parameter.grad is not None) for parameter in learned])
        parts = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in learned]
        flat = torch.cat([there.to(parts[0]), *(part.flatten() for part in parts)])
        with _waiting():
            dist.all_reduce(flat)
        there, *summed = flat.split([len(learned), *(parameter.numel() for parameter in learned)])
        for parameter, found, gradient in zip(learned, there.tolist(), summed, strict=True):
            parameter.grad = gradient.view_as(parameter) if found else None


class WholeBatchDraws(TorchFunctionMode):
    """Draws for all rows of a batch on the CPU, gives those of this process where they are asked for.

    Each draw's first axis has to be the process's rows, or a multiple of them, as of slates in groups.
    """

    def __init__(self, size: int, rows: slice) -> None:
        super().__init__()
        self._size, self._rows = size, rows
        self._draws: dict[Any, Callable[..., Tensor]] = {
            F.dropout: self._dropout,
            torch.multinomial: self._multinomial,
            torch.rand: self._rand,
            torch.randint: self._randint,
        }

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert function not in _UNSHARED, f"{function.__name__} is not drawn for the whole batch"
        return self._draws.get(function, function)(*args, **(kwargs or {}))

    def _whole(self, size: Sequence[int]) -> tuple[list[int], slice]:
        """The shape for all rows, and where those of this process are in it."""
        times, rest = divmod(size[0], self._rows.stop - self._rows.start)
        assert not rest, f"{size} is not of this process's rows"
        return [self._size * times, *size[1:]], slice(self._rows.start * times, self._rows.stop * times)

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0.0:
            return x
        shape, rows = self._whole(x.shape)
        order = sorted(range(x.dim()), key=x.stride, reverse=True)  # torch draws as x lies in memory
        return x * F.dropout(torch.empty_permuted(shape, order, dtype=x.dtype).fill_(1.0), p)[rows].to(
            x.device
        )

    def _multinomial(self, odds: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
        """As torch draws one: by the largest of odds over exponential noise."""
        assert count == 1
        shape, rows = self._whole(odds.shape)
        noise = torch.empty(shape, dtype=odds.dtype).exponential_(1.0, generator=generator)[rows]
        return (odds / noise.to(odds.device)).argmax(-1, keepdim=True)

    def _rand(
        self, *size: int, generator: torch.Generator | None = None, device: torch.device = devices.CPU
    ) -> Tensor:
        shape, rows = self._whole(size)
        return torch.rand(shape, generator=generator)[rows].to(device)

    def _randint(
        self,
        low: int,
        high: int,
        size: Sequence[int],
        generator: torch.Generator | None = None,
        device: torch.device = devices.CPU,
    ) -> Tensor:
        shape, rows = self._whole(size)
        return torch.randint(low, high, shape, generator=generator)[rows].to(device)


_UNSHARED = {torch.randn, torch.randperm, torch.rand_like, torch.randn_like, torch.bernoulli, torch.normal}
