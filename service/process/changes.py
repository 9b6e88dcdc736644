"""Changes of what is served, agreed among the workers of one service: all have it ready, then all switch.

Any worker proposes a plan to the supervisor, which has one worker after another prepare it, so that no more
than one core is taken from callers. When all are ready all switch; when one is not, none does. A worker that
is still starting is started anew with the new plan; one that does not switch is replaced by one that has.

Messages are JSON over a pipe to each worker.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from time import monotonic
from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from bundle.manifest import BundleError
from service.errors import ChangeTimeoutError, ConflictError
from service.serving.changes import FAULTS, Changes, told, too_slow
from service.serving.plan import Plan

SWITCH_S = 5.0
"""What a worker that is ready gets to switch."""

logger = logging.getLogger(__name__)


class Started(msgspec.Struct, tag=True):
    """A worker serves, by the plan it was started with."""


class Propose(msgspec.Struct, tag=True):
    """A worker would like this plan to be served by all."""

    plan: Plan


class Prepare(msgspec.Struct, tag=True):
    """The supervisor: get ready for a plan. `change` numbers the attempt."""

    change: int
    plan: Plan


class Ready(msgspec.Struct, tag=True):
    """A worker is, or is not, because of the fault."""

    change: int
    fault: str | None = None


class Switch(msgspec.Struct, tag=True):
    """The supervisor: serve what was prepared."""

    change: int


class Switched(msgspec.Struct, tag=True):
    change: int


class GiveUp(msgspec.Struct, tag=True):
    """The supervisor: forget what was prepared, or is being."""

    change: int


class Outcome(msgspec.Struct, tag=True):
    """The supervisor, to who proposed: what became of it."""

    kind: Literal["done", "refused", "conflict", "timeout"]
    message: str = ""


ToWorker = Prepare | Switch | GiveUp | Outcome
FromWorker = Started | Propose | Ready | Switched

_encode = msgspec.json.Encoder().encode
_for_worker = msgspec.json.Decoder(ToWorker).decode
_from_worker = msgspec.json.Decoder(FromWorker).decode


class Link(Changes):
    """A worker's end, in place of changes that it would make alone."""

    def __init__(self, alone: Changes, pipe: Connection) -> None:
        super().__init__(alone.models, alone.repository, alone.timeout_s)
        self._pipe = pipe
        self._preparing: asyncio.Task[None] | None = None
        self._outcome: asyncio.Future[Outcome] | None = None

    def listen(self) -> None:
        """To the supervisor, from the time on that this worker serves."""
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._read)
        self._send(Started())

    async def _agree(self, plan: Plan) -> None:
        self._outcome = asyncio.get_running_loop().create_future()
        self._send(Propose(plan))
        outcome = await self._outcome
        if outcome.kind == "refused":
            raise BundleError(outcome.message)
        if outcome.kind == "conflict":
            raise ConflictError(outcome.message)
        if outcome.kind == "timeout":
            raise ChangeTimeoutError(outcome.message)

    def _read(self) -> None:
        try:
            message = _for_worker(self._pipe.recv_bytes())
        except (EOFError, OSError):  # the supervisor is gone, and this worker drains
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            return
        if isinstance(message, Prepare):
            self._preparing = asyncio.create_task(self._prepare(message))
        elif isinstance(message, Switch):
            self.models.commit()
            self._send(Switched(message.change))
        elif isinstance(message, GiveUp):
            if self._preparing is not None:
                self._preparing.cancel()
            self.models.abort()
        elif self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(message)

    async def _prepare(self, message: Prepare) -> None:
        fault = None
        try:
            await self.models.prepare(message.plan)
        except FAULTS as error:
            fault = str(error)
        except Exception as error:
            logger.error("unexpected error in loading a model", exc_info=error)
            fault = "unexpected error in loading a model; the log has it"
        self._send(Ready(message.change, fault))

    def _send(self, message: FromWorker) -> None:
        with suppress(OSError):
            self._pipe.send_bytes(_encode(message))


class Worker(Protocol):
    """What the supervisor knows of one that runs."""

    number: int
    pipe: Connection | None
    serving: bool


Place = TypeVar("Place", bound=Worker)


class Agreement(Generic[Place]):
    """The supervisor's end: one change at a time.

    Attributes:
        plan: what is served, and what a worker is to start with.
    """

    def __init__(self, plan: Plan, timeout_s: float) -> None:
        self.plan, self._timeout_s = plan, timeout_s
        self._change, self._until = 0, 0.0
        self._next: Plan | None = None
        self._proposer: Place | None = None
        self._asked: Place | None = None
        self._ready: list[Place] = []
        self._switching: list[Place] = []

    def propose(self, plan: Plan, proposer: Place | None = None) -> None:
        """Begin a change, unless one is under way or the plan is not made of the present one."""
        if self._next is not None or self._switching or plan.revision != self.plan.revision + 1:
            self._tell(proposer, Outcome("conflict", "another change is under way"))
            return
        self._change += 1
        self._next, self._proposer, self._until = plan, proposer, monotonic() + self._timeout_s
        self._asked, self._ready = None, []

    def heard(self, worker: Place) -> None:
        """Read a message of a worker. Raises: EOFError, OSError: it is gone."""
        assert worker.pipe is not None
        message = _from_worker(worker.pipe.recv_bytes())
        if isinstance(message, Started):
            worker.serving = True
        elif isinstance(message, Propose):
            self.propose(message.plan, worker)
        elif message.change != self._change:
            return
        elif isinstance(message, Switched):
            self._switching = [one for one in self._switching if one is not worker]
            self._finish()
        elif worker is self._asked:
            self._asked = None
            if message.fault is None:
                self._ready.append(worker)
            else:
                self._fail(Outcome("refused", message.fault))

    def gone(self, worker: Place) -> None:
        """A worker died."""
        self._ready = [one for one in self._ready if one is not worker]
        if worker is self._asked:
            self._asked = None
            self._fail(Outcome("refused", f"worker {worker.number} died of it"))
        if self._proposer is worker:
            self._proposer = None
        self._switching = [one for one in self._switching if one is not worker]
        self._finish()

    def go_on(self, workers: Sequence[Place]) -> list[Place]:
        """Take the next step, if there is one. Returns the workers that are to be replaced at once."""
        if self._switching and monotonic() > self._until:
            late = self._switching
            for worker in late:
                logger.error("worker %d did not switch to the new models and is replaced", worker.number)
            return late
        if self._next is None:
            return []
        if monotonic() > self._until:
            self._fail(Outcome("timeout", str(too_slow(self._timeout_s))))
            return []
        if self._asked is not None:
            return []
        for worker in workers:
            if worker.serving and worker not in self._ready:
                self._asked = worker
                self._tell(worker, Prepare(self._change, self._next))
                return []
        return self._switch(workers)

    def _switch(self, workers: Sequence[Place]) -> list[Place]:
        assert self._next is not None
        self.plan, self._next = self._next, None
        self._switching, self._until = list(self._ready), monotonic() + SWITCH_S
        for worker in self._ready:
            self._tell(worker, Switch(self._change))
        told(self.plan)
        self._finish()
        return [worker for worker in workers if worker.pipe is not None and not worker.serving]

    def _finish(self) -> None:
        if not self._switching and self._next is None and self._proposer is not None:
            proposer, self._proposer = self._proposer, None
            self._tell(proposer, Outcome("done"))

    def _fail(self, outcome: Outcome) -> None:
        self._next = None
        proposer, self._proposer = self._proposer, None
        for worker in {id(one): one for one in (*self._ready, self._asked) if one is not None}.values():
            self._tell(worker, GiveUp(self._change))
        self._asked, self._ready = None, []
        if proposer is None:
            told(BundleError(outcome.message))
        else:
            self._tell(proposer, outcome)

    def _tell(self, worker: Place | None, message: ToWorker) -> None:
        if worker is None or worker.pipe is None:
            return
        with suppress(OSError):  # it is gone, which its end of the pipe tells as well
            worker.pipe.send_bytes(_encode(message))
