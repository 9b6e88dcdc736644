"""Whether processes had their cores to themselves while something was measured, by what Linux counts.

A process that could run and did not has waited for others on its core, which /proc/PID/schedstat counts in
nanoseconds; what the host of a virtual machine took of a core is its steal in /proc/stat, in ticks.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Shared:
    """Shares of the time, known once it has passed.

    Attributes:
        ran, waited: of all threads of the processes: had the core, or could have used it while others did.
        stolen: of the core, by the host.
    """

    ran: float = 0.0
    waited: float = 0.0
    stolen: float = 0.0


@contextmanager
def watch(pids: Sequence[int], core: int) -> Iterator[Shared]:
    """Of these processes on their core, while the block lasts."""
    shared, began, before = Shared(), perf_counter(), _read(pids, core)
    yield shared
    seconds, after = perf_counter() - began, _read(pids, core)
    shared.ran, shared.waited, shared.stolen = (
        (new - old) / seconds for new, old in zip(after, before, strict=True)
    )


def put_first(pids: Sequence[int]) -> bool:
    """Let the threads of processes go before all else on their cores, but not what they start. Niceness would
    not do, because Linux weighs sessions first. Returns whether that is allowed."""
    with suppress(PermissionError):
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
                os.sched_setscheduler(int(task.name), policy, os.sched_param(1))
        return True
    return False


def ran_s(pids: Sequence[int]) -> float:
    """CPU time of processes."""
    return sum(_threads(pids, 0))


def _read(pids: Sequence[int], core: int) -> tuple[float, float, float]:
    return ran_s(pids), sum(_threads(pids, 1)), _stolen_s(core)


def _threads(pids: Sequence[int], which: int) -> Iterator[float]:
    """Seconds of each thread that is alive."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield int((task / "schedstat").read_text().split()[which]) / 1e9


def _stolen_s(core: int) -> float:
    lines = Path("/proc/stat").read_text().splitlines()
    (fields,) = (line.split() for line in lines if line.startswith(f"cpu{core} "))
    return int(fields[8]) / TICKS
