"""The decision log: what the service did and what came of it, encoded on the event loop, written by a thread.

Encoding is Python's own work, which the event loop would wait for in a thread too, and for the thread's
comings and goings besides. What waits is bounded in lines and bytes. Whatever becomes of the sink, no request
fails or waits for it: what finds no room is dropped, and counted. The sink gets what has come at least every
`flush_s`, so that the death of the process loses no more than came within so long. Knows neither what is
logged nor where it goes.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from time import time
from typing import Protocol, get_args

from decisions.lines import Forgotten, Line, encode
from decisions.pseudonyms import pseudonym
from service.errors import DecisionLogError
from service.observe.metrics import LineDropped, Metrics
from service.settings import Settings

RETRY_S = 1.0
"""After a fault of the sink."""

STOP_S = 5.0
"""For what is left at the service's end. A sink that hangs does not keep it longer."""

FORGET_S = 5.0
"""Longest wait until a user's forgetting is written."""

Hide = Callable[[str | None], str | None]
"""What the log calls a user."""

Make = Callable[[Hide], Line]
"""Makes a line."""

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """Where lines go. Used by one thread."""

    def start(self) -> None: ...

    def write(self, lines: list[bytes]) -> None:
        """Take lines, each without its end, out of the list and in order.

        Raises:
            OSError: what is still in the list was not taken.
        """
        ...

    def due_s(self) -> float | None:
        """Seconds until `tend` has something to do; None if it has not."""
        ...

    def tend(self) -> None: ...

    def close(self) -> None: ...


class DecisionLog:
    """Put to from the event loop."""

    def __init__(self, sink: Sink, settings: Settings, metrics: Metrics) -> None:
        self._sink, self._hide = sink, hiding(settings)
        self._flush_s = settings.decision_log_flush_s
        self._max_lines, self._max_bytes = (
            settings.decision_log_buffer_lines,
            settings.decision_log_buffer_bytes,
        )
        self._metrics = metrics
        self._dropped = {reason: metrics.decisions_dropped.labels(reason) for reason in get_args(LineDropped)}
        self._names_users = settings.decision_log_users != "none"
        self._queue: deque[bytes] = deque()
        self._told: deque[tuple[int, Callable[[], None]]] = deque()  # once so many lines are gone
        # Lines that came and that went, and their bytes: each counted by one thread, and read by both.
        self._put, self._put_bytes, self._gone, self._gone_bytes = 0, 0, 0, 0
        self._idle = self._failing = False
        self._wake, self._over = Event(), Event()
        self._thread = Thread(target=self._run, name="decision-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, make: Make) -> None:
        """Make a line and have it written, if there is room."""
        lines, size = self._put - self._gone, self._put_bytes - self._gone_bytes
        if lines >= self._max_lines or size >= self._max_bytes:
            self._dropped["sink" if self._failing else "buffer"].inc()
            return
        try:
            line = encode(make(self._hide))
        except Exception as error:
            self._dropped["unencodable"].inc()
            logger.error("a line of the decision log cannot be written: %s", type(error).__name__)
            return
        self._add(line)
        if self._idle:
            self._idle = False
            self._wake.set()
        elif self._half_full():
            self._wake.set()

    async def forget(self, user_id: str) -> None:
        """Write that a user is forgotten, and wait until that is written.

        Raises:
            DecisionLogError: it could not be.
        """
        if not self._names_users:
            return
        loop = asyncio.get_running_loop()
        written = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(written.set)

        named = self._hide(user_id)
        assert named is not None
        self._told.append((self._put + 1, tell))
        self._add(encode(Forgotten(named, time())))
        self._wake.set()
        try:
            await asyncio.wait_for(written.wait(), FORGET_S)
        except TimeoutError:
            raise DecisionLogError("the decision log cannot be written, try again") from None

    async def stop(self) -> None:
        """Write what is left; give up after `STOP_S`."""
        self._over.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, STOP_S)
        if left := self._put - self._gone:
            self._dropped["sink"].inc(left)
            logger.error("the decision log ends without %d lines", left)

    def _half_full(self) -> bool:
        """Whether there is no time to wait for more."""
        lines, size = self._put - self._gone, self._put_bytes - self._gone_bytes
        return not self._failing and (2 * lines > self._max_lines or 2 * size > self._max_bytes)

    def _add(self, line: bytes) -> None:
        self._put += 1
        self._put_bytes += len(line)
        self._queue.append(line)

    def _run(self) -> None:
        self._sink.start()
        lines: list[bytes] = []  # that the sink has not taken
        while not self._over.is_set():
            self._rest(lines)
            self._write(lines)
            if (due_s := self._sink.due_s()) is not None and due_s <= 0:
                self._sink.tend()
        self._write(lines)
        self._sink.close()

    def _rest(self, lines: list[bytes]) -> None:
        """Until there is something to do: a line came, and others had time to come."""
        due_s = self._sink.due_s()
        if not lines:
            self._idle = True
            if not self._queue and not self._over.is_set():
                self._wake.wait(due_s)
            self._idle = False
            self._wake.clear()
        urgent = self._over.is_set() or (self._told and not self._failing) or self._half_full()
        if (lines or self._queue) and not urgent:
            wait_s = RETRY_S if self._failing else self._flush_s
            self._wake.wait(wait_s if due_s is None else min(wait_s, max(0.0, due_s)))
            self._wake.clear()

    def _write(self, lines: list[bytes]) -> None:
        """Give the sink these and what has come; what it does not take is left in `lines`."""
        while self._queue:
            lines.append(self._queue.popleft())
        if not lines:
            return
        self._metrics.decisions_waiting.set(len(lines))
        count, size = len(lines), sum(map(len, lines))
        fault: OSError | None = None
        try:
            self._sink.write(lines)
        except OSError as error:
            fault = error
        count, size = count - len(lines), size - sum(map(len, lines))
        self._gone, self._gone_bytes = self._gone + count, self._gone_bytes + size
        self._metrics.decisions.inc(count)
        self._metrics.decision_bytes.inc(size + count)
        self._metrics.decisions_waiting.set(len(lines))
        while self._told and self._told[0][0] <= self._gone:
            self._told.popleft()[1]()
        if (fault is not None) is not self._failing:
            self._failing = fault is not None
            self._metrics.decision_log_up.set(not self._failing)
            if fault is not None:
                logger.error("the decision log cannot be written: %s", fault.strerror or type(fault).__name__)
            else:
                logger.warning("the decision log is written again")


def hiding(settings: Settings) -> Hide:
    """How the settings want users to be called."""
    if settings.decision_log_users == "plain":
        return lambda user_id: user_id
    if settings.decision_log_users == "none":
        return lambda user_id: None
    return partial(_hashed, settings.read_decision_log_key())


def _hashed(key: bytes, user_id: str | None) -> str | None:
    return None if user_id is None else pseudonym(user_id, key)
