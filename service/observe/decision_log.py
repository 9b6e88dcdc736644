"""The decision log: what the service did and what came of it, written by a thread.

The event loop puts what a line is made from on a queue that is bounded in lines and bytes; the thread does
all else. Whatever becomes of the sink, no request is slowed or fails: what finds no room is dropped, and
counted. The sink gets what has come at least every `flush_s`, so that the death of the process loses no more
than came within so long. Knows neither what is logged nor where it goes.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from time import monotonic, sleep, time
from typing import NamedTuple, Protocol, get_args

from decisions.lines import Forgotten, Line, encode
from decisions.pseudonyms import pseudonym
from service.errors import DecisionLogError
from service.observe.metrics import LineDropped, Metrics
from service.settings import Settings

PACE_S = 0.02
"""Between two looks at the queue, while lines come."""

RETRY_S = 1.0
"""After a fault of the sink."""

STOP_S = 5.0
"""For what is left at the service's end. A sink that hangs does not keep it longer."""

FORGET_S = 5.0
"""Longest wait until a user's forgetting is written."""

A_TOMBSTONE = 200
"""Bytes, about."""

Hide = Callable[[str | None], str | None]
"""What the log calls a user."""

Make = Callable[[Hide], Line]
"""Makes a line, in the thread."""

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


class _Put(NamedTuple):
    make: Make
    size: int
    written: Callable[[], None] | None = None


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
        self._queue: deque[_Put] = deque()
        self._lines: list[bytes] = []  # encoded, for the sink
        self._taken = 0
        self._told: list[tuple[int, Callable[[], None]]] = []  # once the sink has taken so many
        # Lines that came and that went, and their bytes: each counted by one thread, and read by both.
        self._put, self._put_bytes, self._gone, self._gone_bytes = 0, 0, 0, 0
        self._idle = self._failing = False
        self._wake, self._over = Event(), Event()
        self._thread = Thread(target=self._run, name="decision-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, make: Make, size: int) -> None:
        """Have a line made and written, if there is room.

        Args:
            size: its bytes, as far as they can be told before.
        """
        if (
            self._put - self._gone >= self._max_lines
            or self._put_bytes + size - self._gone_bytes > self._max_bytes
        ):
            # Counted by the event loop; what the thread drops has other reasons, or the service ends.
            self._dropped["sink" if self._failing else "buffer"].inc()
            return
        self._add(_Put(make, size))

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

        self._add(_Put(partial(_forgotten, user_id, time()), A_TOMBSTONE, tell))
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

    def _add(self, put: _Put) -> None:
        self._put += 1
        self._put_bytes += put.size
        self._queue.append(put)
        if self._idle:
            self._idle = False
            self._wake.set()

    def _run(self) -> None:
        self._sink.start()
        write_at = 0.0
        while not self._over.is_set():
            self._rest()
            self._encode()
            now = monotonic()
            if self._lines and (now >= write_at or (self._told and not self._failing)):
                write_at = now + (self._flush_s if self._write() else RETRY_S)
            if (due_s := self._sink.due_s()) is not None and due_s <= 0:
                self._sink.tend()
            self._metrics.decisions_waiting.set(self._put - self._gone)
        self._encode()
        if self._lines:
            self._write()
        self._sink.close()

    def _rest(self) -> None:
        """Until there may be something to do."""
        self._wake.clear()
        if self._lines:
            self._wake.wait(PACE_S)
            return
        self._idle = True
        if not self._queue and not self._over.is_set():
            self._wake.wait(self._sink.due_s())
        self._idle = False
        if not self._over.is_set():
            self._wake.wait(PACE_S)

    def _encode(self) -> None:
        """What has come. Between two lines whoever else wants to run may."""
        while self._queue:
            make, size, written = self._queue.popleft()
            try:
                line = encode(make(self._hide))
            except Exception as error:
                self._dropped["unencodable"].inc()
                self._gone, self._gone_bytes = self._gone + 1, self._gone_bytes + size
                logger.error("a line of the decision log cannot be written: %s", type(error).__name__)
                continue
            self._gone_bytes += size - len(line)
            self._lines.append(line)
            if written is not None:
                self._told.append((self._taken + len(self._lines), written))
            sleep(0)

    def _write(self) -> bool:
        """Give the sink what is encoded. Returns whether it took all."""
        count, size = len(self._lines), sum(map(len, self._lines))
        fault: OSError | None = None
        try:
            self._sink.write(self._lines)
        except OSError as error:
            fault = error
        count, size = count - len(self._lines), size - sum(map(len, self._lines))
        self._gone, self._gone_bytes = self._gone + count, self._gone_bytes + size
        self._metrics.decisions.inc(count)
        self._metrics.decision_bytes.inc(size + count)
        self._taken += count
        while self._told and self._told[0][0] <= self._taken:
            self._told.pop(0)[1]()
        if (fault is not None) is not self._failing:
            self._failing = fault is not None
            self._metrics.decision_log_up.set(not self._failing)
            if fault is not None:
                logger.error("the decision log cannot be written: %s", fault.strerror or type(fault).__name__)
            else:
                logger.warning("the decision log is written again")
        return fault is None


def hiding(settings: Settings) -> Hide:
    """How the settings want users to be called."""
    if settings.decision_log_users == "plain":
        return lambda user_id: user_id
    if settings.decision_log_users == "none":
        return lambda user_id: None
    return partial(_hashed, settings.read_decision_log_key())


def _forgotten(user_id: str, at: float, hide: Hide) -> Forgotten:
    named = hide(user_id)
    assert named is not None
    return Forgotten(named, at)


def _hashed(key: bytes, user_id: str | None) -> str | None:
    return None if user_id is None else pseudonym(user_id, key)
