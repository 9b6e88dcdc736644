"""Several workers on one port: started, restarted when they die or hang, drained together.

The supervisor reserves the port and forks; each worker has a socket of its own on it. The supervisor
stays small: what serves is imported by the workers alone. Each of them has its own session, queue and limits;
users are shared through Redis, and what is served is agreed on (`service.process.changes`).
"""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from time import monotonic, sleep
from types import FrameType

from bundle.repository import Repository
from service.observe import families
from service.observe.instruments import Instruments
from service.observe.process import Process
from service.process.changes import Agreement
from service.process.heartbeat import Heartbeats
from service.process.listening import STARTUP_FAILURE, address, close, listening, of_worker
from service.serving.changes import FAULTS, reloading, told
from service.serving.plan import Plan
from service.settings import Settings

METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own name: the directory in which each process has a file of figures."""

TICK_S = 0.1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STEADY_S = 60.0
"""A worker that lived this long is not crashing in a loop: its successor starts after the first pause."""

GRACE_S = 5.0
"""What a worker gets beyond `drain_s` and `shutdown_timeout_s` before it is killed."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


def supervise(settings: Settings, plan: Plan) -> int:
    """Serve a plan with `settings.workers` processes until a signal, and return the exit code.

    0: drained. 1: a worker had to be killed, or ended badly. 3: a worker cannot start at all.
    """
    with listening(settings) as reserved, _metrics_directory() as directory:
        return Supervisor(settings, plan, reserved, directory).run()


@dataclass(eq=False)
class _Place:
    """Where a worker runs: its process, its end of a pipe, and what is known of those before it."""

    number: int
    figures: Path
    process: ForkProcess | None = None
    pipe: Connection | None = None
    serving: bool = False
    started: float = 0.0
    due: float = 0.0  # when the next may start
    deaths: int = 0  # in a row, each before `STEADY_S`
    restarted: bool = False
    beats: int = 0  # counted so far
    silent_s: float | None = None  # since the last of them; None before the first of this process


class Supervisor:
    """Keeps every place filled until a signal."""

    def __init__(
        self, settings: Settings, plan: Plan, reserved: list[socket.socket], directory: Path
    ) -> None:
        self._settings, self._reserved = settings, reserved
        self._places = [
            _Place(number, directory / f"worker-{number}{families.SUFFIX}")
            for number in range(settings.workers)
        ]
        self._beats = Heartbeats(settings.workers)
        self._agreement: Agreement[_Place] = Agreement(plan, settings.load_timeout_s)
        self._signals = 0
        self._hung_up = False
        self._instruments = Instruments()
        self._restarts = self._instruments.counter("worker_restarts_total", "Workers restarted.")
        self._process = Process(self._instruments)
        self._figures = directory / f"supervisor{families.SUFFIX}"

    def run(self) -> int:
        for number in SIGNALS:
            signal.signal(number, self._note)
        signal.signal(signal.SIGHUP, self._hang_up)
        logger.info("%d workers on %s", len(self._places), ", ".join(map(address, self._reserved)))
        code = 0
        self._write()
        while not self._signals and not code:
            if self._hung_up:
                self._hung_up = False
                self._reload()
            for place in self._places:
                code = code or self._tend(place)
            for place in self._agreement.go_on(self._places):
                self._replace(place)
            self._listen(TICK_S)
        drained = self._drain()
        return code or drained

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        self._hung_up = True

    def _reload(self) -> None:
        try:
            plan = reloading(Repository(self._settings.bundle))(self._agreement.plan)
        except FAULTS as fault:
            told(fault)
            return
        if plan is self._agreement.plan:
            logger.info("SIGHUP: nothing new to serve")
        else:
            self._agreement.propose(plan)

    def _replace(self, place: _Place) -> None:
        """Start another worker, with the present plan."""
        assert place.process is not None
        place.process.kill()
        place.process.join()
        self._bury(place)
        self._start(place)

    def _listen(self, seconds: float) -> None:
        """Hear what workers say, for so long."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            places = [place for place in self._places if place.pipe is not None]
            heard = wait([place.pipe for place in places if place.pipe is not None], left)
            for place in [place for place in places if place.pipe in heard]:
                try:
                    self._agreement.heard(place)
                except (EOFError, OSError):
                    self._hang_up_on(place)
            if heard:
                for place in self._agreement.go_on(self._places):
                    self._replace(place)

    def _hang_up_on(self, place: _Place) -> None:
        """A worker has ended, or is about to."""
        if place.pipe is not None:
            place.pipe.close()
            place.pipe, place.serving = None, False
            self._agreement.gone(place)

    def _tend(self, place: _Place) -> int:
        """Start what is due, kill what is stuck, bury what died.

        Returns an exit code when there is no use in going on.
        """
        if place.process is not None and place.process.exitcode is None and self._is_stuck(place):
            logger.error(
                "worker %d gave no sign of life for %.1f s and is killed", place.number, place.silent_s
            )
            place.process.kill()
            place.process.join()
        if place.process is not None and place.process.exitcode is not None:
            code, lived_s = place.process.exitcode, monotonic() - place.started
            self._bury(place)
            if code == STARTUP_FAILURE and not place.restarted:
                logger.error("worker %d cannot start", place.number)
                return STARTUP_FAILURE
            place.deaths = 1 if lived_s >= STEADY_S else place.deaths + 1
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (place.deaths - 1))
            place.due, place.restarted = monotonic() + pause_s, True
            cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            death = "worker %d died after %.1f s by %s; restarting it in %.1f s"
            logger.error(death, place.number, lived_s, cause, pause_s)
        if place.process is None and monotonic() >= place.due:
            if place.restarted:
                self._restarts.inc()
                self._write()
            self._start(place)
        return 0

    def _is_stuck(self, place: _Place) -> bool:
        """Time counts only while the supervisor itself runs, lest a common pause kill anybody."""
        beats = self._beats.count(place.number)
        if beats != place.beats:
            place.beats, place.silent_s = beats, 0.0
        elif place.silent_s is not None:
            place.silent_s += TICK_S
        return place.silent_s is not None and place.silent_s > self._settings.stuck_after_s

    def _start(self, place: _Place) -> None:
        place.silent_s, place.serving = None, False
        place.pipe, theirs = multiprocessing.Pipe()
        given = self._settings, self._agreement.plan, self._reserved, place.figures, theirs
        place.process = multiprocessing.get_context("fork").Process(
            target=_work, args=(*given, partial(self._beats.beat, place.number))
        )
        # A signal may not find the child with the supervisor's handlers, which would swallow it.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        place.process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
        place.started = monotonic()
        logger.info("worker %d started with pid %d", place.number, place.process.pid)

    def _bury(self, place: _Place) -> None:
        """Forget a dead process and its gauges. Its successor continues from its counts."""
        assert place.process is not None
        self._hang_up_on(place)
        place.process.close()
        place.process = None
        with _logged():
            families.bury(place.figures)

    def _write(self) -> None:
        self._process.refresh()
        with _logged():
            families.write(self._figures, self._instruments.encoded())

    def _drain(self) -> int:
        """Let every worker finish, and say whether all did."""
        close(self._reserved)
        running = [place.process for place in self._places if place.process is not None]
        give_up = monotonic() + self._settings.drain_s + self._settings.shutdown_timeout_s + GRACE_S
        passed_on = 0
        while any(process.is_alive() for process in running) and monotonic() < give_up:
            if passed_on < max(1, self._signals):  # a second signal skips the wait
                passed_on += 1
                for process in running:
                    process.terminate()
            sleep(TICK_S)
        for process in running:
            if process.is_alive():
                logger.error("worker with pid %d does not end and is killed", process.pid)
                process.kill()
            process.join()
        # By SIGTERM end those that were still starting.
        return 0 if all(process.exitcode in (0, -signal.SIGTERM) for process in running) else 1


def _work(
    settings: Settings,
    plan: Plan,
    reserved: list[socket.socket],
    figures: Path,
    pipe: Connection,
    beat: Callable[[], None],
) -> None:
    """A worker's life. In a process group of its own: Ctrl-C is for the supervisor, which passes it on."""
    os.setpgrp()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    own = of_worker(reserved)
    close([one for one in reserved if one not in own])
    from service.process.server import work

    raise SystemExit(work(settings, plan, own, figures, pipe, beat))


@contextmanager
def _logged() -> Iterator[None]:
    """Log a failure to write figures, which is no reason to stop."""
    try:
        yield
    except OSError as error:
        logger.error("the figures of /metrics are not up to date: %s", error)


@contextmanager
def _metrics_directory() -> Iterator[Path]:
    """An empty directory for the workers' figures: the given one, without what an earlier run left in it.

    Raises:
        SystemExit: it cannot be written.
    """
    given = os.environ.get(METRICS_DIRECTORY)
    try:
        directory = Path(given or tempfile.mkdtemp(prefix="rerank-metrics-"))
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.glob(f"*{families.SUFFIX}"):
            stale.unlink()
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        logger.error(
            "several workers need a writable %s or temporary directory: %s", METRICS_DIRECTORY, error
        )
        raise SystemExit(STARTUP_FAILURE) from error
    try:
        yield directory
    finally:
        if not given:
            shutil.rmtree(directory, ignore_errors=True)
