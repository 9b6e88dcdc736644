"""A queue that is fair between callers by the engine's time, and within a caller goes by deadline.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): virtual time is seconds of work each caller has been
given. Who asks for much waits behind who asks for little; who has been away has saved up nothing. Knows
nothing of batches, lengths or clocks.
"""

from bisect import insort
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

REMEMBERED = 1024
"""Callers without work whose share is remembered: the latest."""


class Work(Protocol):
    """What may be queued."""

    @property
    def caller(self) -> Hashable: ...

    @property
    def deadline(self) -> float: ...

    @property
    def cost_s(self) -> float: ...


W = TypeVar("W", bound=Work)


@dataclass(slots=True)
class _Line(Generic[W]):
    """One caller's: earliest deadline first. `start` is the virtual time its first is due at."""

    start: float
    seconds: float = 0.0
    jobs: list[W] = field(default_factory=list)


class FairQueue(Generic[W]):
    """Attributes:
    seconds: of all work that waits.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lines: dict[Hashable, _Line[W]] = {}
        self._finished: dict[Hashable, float] = {}  # where callers without a line ended
        self._now = 0.0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[W]:
        return (job for line in self._lines.values() for job in line.jobs)

    def push(self, job: W) -> None:
        line = self._lines.get(job.caller)
        if line is None:
            line = _Line(max(self._now, self._finished.pop(job.caller, 0.0)))
            self._lines[job.caller] = line
        insort(line.jobs, job, key=attrgetter("deadline"))
        self._counted(line, job.cost_s, 1)

    def remove(self, job: W) -> bool:
        """Whether it was there."""
        line = self._lines.get(job.caller)
        if line is None or job not in line.jobs:
            return False
        line.jobs.remove(job)
        self._left(line, job)
        return True

    def take(self, wanted: Callable[[W], bool], at_most: int) -> list[W]:
        """Take so many jobs in fair order. A caller whose next one is not wanted is passed over."""
        taken: list[W] = []
        due = [(line.start, place, line) for place, line in enumerate(self._lines.values())]
        heapify(due)
        while due and len(taken) < at_most:
            start, place, line = heappop(due)
            job = line.jobs[0]
            if not wanted(job):
                continue
            taken.append(job)
            del line.jobs[0]
            self._now = max(self._now, start)
            line.start = start + job.cost_s
            self._left(line, job)
            if line.jobs:
                heappush(due, (line.start, place, line))
        return taken

    def ahead_s(self, caller: Hashable, cost_s: float) -> float:
        """Seconds of work that goes before a job of this caller's and cost, if it came now: its own, and of
        each other caller no more than it would then have had itself."""
        own = self._lines.get(caller)
        before = own.seconds if own is not None else 0.0
        share = before + cost_s
        return before + sum(min(line.seconds, share) for line in self._lines.values() if line is not own)

    def rest(self) -> None:
        """Nobody waits and nothing runs: what callers have been given counts no more."""
        self._finished.clear()
        self._now = self.seconds = 0.0

    def _left(self, line: _Line[W], job: W) -> None:
        self._counted(line, -job.cost_s, -1)
        if not line.jobs:
            del self._lines[job.caller]
            self._finished[job.caller] = line.start
            if len(self._finished) > REMEMBERED:
                del self._finished[next(iter(self._finished))]

    def _counted(self, line: _Line[W], seconds: float, jobs: int) -> None:
        line.seconds += seconds
        self.seconds += seconds
        self._count += jobs
