"""A decision log read back: decisions in the order of time, each with what came of it.

Two passes: the first finds who asked to be forgotten, the second joins. What is kept in memory is the
decisions of one window, not the log. Knows nothing of models, and not what an outcome is worth.
"""

import gzip
import heapq
import math
import zlib
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from bundle.errors import RerankerError
from bundle.timestamps import unix_seconds
from decisions.files import PACKED, UNFINISHED
from decisions.lines import Decision, Feedback, Forgotten, Line, Outcome, decode

WINDOW_S = 86_400.0
"""How long after a decision its feedback counts, if nobody says otherwise."""

DISORDER_S = 60.0
"""How much later than a later line of its file a line may have been written, and by how much feedback may
be older than its decision, by clocks of two hosts or one that was set back."""


class DecisionLogError(RerankerError):
    """A log that cannot be read; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A decision and what came of it within the window: events with items of the list, each once."""

    decision: Decision
    outcomes: tuple[Outcome, ...]


@dataclass(slots=True)
class Tally:
    """What was read, and what could not be joined. Decisions and lines are counted as such, all that is
    called events as single outcomes.

    Attributes:
        decisions: that were joined with what came of them, fallbacks among them.
        open: of these, those whose window was not over when the log ended; more may come of them.
        events: that were joined.
        without_id: decisions that no feedback can name; left out, since nothing is known of them.
        repeated: decisions whose id had come before.
        forgotten: decisions of people who asked to be forgotten.
        unknown_events: with no such decision, or more than a window later than `late_events` are.
        forgotten_events: of people who asked to be forgotten.
        late_events: up to a window too late.
        foreign_events: with items that the list did not have.
        repeated_events: whose `event_id` had come before in the feedback to the same decision, or of a line
            that had, as in a file that was copied.
        earlier: of the decisions, those from before the time that was asked for; left out.
        truncated: files whose last line is not whole.
        removed: files that went, the oldest of too many, before they were read.
    """

    decisions: int = 0
    fallbacks: int = 0
    open: int = 0
    events: int = 0
    without_id: int = 0
    repeated: int = 0
    forgotten: int = 0
    unknown_events: int = 0
    forgotten_events: int = 0
    late_events: int = 0
    foreign_events: int = 0
    repeated_events: int = 0
    earlier: int = 0
    truncated: int = 0
    removed: int = 0

    def __str__(self) -> str:
        found = ((one.name.replace("_", " "), getattr(self, one.name)) for one in fields(self))
        return ", ".join(f"{name} {count}" for name, count in found if count)


@dataclass(slots=True)
class Tombstones:
    """When each of those who asked to be forgotten did so last, in unix seconds."""

    at: dict[str, float] = field(default_factory=dict)

    def add(self, line: Forgotten) -> None:
        self.at[line.user_id] = max(line.at, self.at.get(line.user_id, line.at))

    def cover(self, user_id: str | None, at: float) -> bool:
        """Whether what this user did then may not be used any more."""
        return user_id is not None and at <= self.at.get(user_id, -math.inf)


def log_files(directory: Path) -> list[Path]:
    """The log's files, in this folder and below. One that is just being compressed is there once.

    Raises:
        DecisionLogError: there are none, or one is packed otherwise, so that nobody would see who in it
            asked to be forgotten.
    """
    plain = set(directory.rglob("*.jsonl"))  # first: what is compressed meanwhile is then found twice
    others = set(directory.rglob("*.jsonl.*"))
    packed = {path for path in others if path.name.endswith(PACKED)}
    for path in sorted(others - packed):
        if path.suffix != UNFINISHED and not path.name.startswith("."):
            raise DecisionLogError(f"{path}: is neither *.jsonl nor *.jsonl.gz: unpack it, or use gzip")
    found = packed | {path for path in plain if _packed(path) not in packed}
    if not found:
        raise DecisionLogError(f"{directory}: no *.jsonl or *.jsonl.gz here")
    return sorted(found)


def read_lines(path: Path, tally: Tally | None = None, only: bytes = b"") -> Iterator[tuple[bytes, Line]]:
    """Each line of a file as it is written there, and what it says.

    Args:
        only: lines with these bytes in them.

    Raises:
        DecisionLogError: a line is wrong; the last of a file only if it is whole.
    """
    number = 0
    try:
        opened = _opened(path)
    except FileNotFoundError:
        if tally:
            tally.removed += 1
        return
    try:
        with opened as file:
            for number, text in enumerate(_until_cut(file), start=1):
                if only not in text or not text.strip():
                    continue
                try:
                    line = decode(text)
                    if isinstance(line, Decision):
                        _check(line)
                except (msgspec.MsgspecError, ValueError) as error:
                    if text.endswith(b"\n"):
                        raise DecisionLogError(f"{path}:{number}: {error}") from error
                    if tally:
                        tally.truncated += 1
                    return
                yield text, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DecisionLogError(f"{path}:{number + 1}: not whole: {error}") from error


def tombstones(files: Sequence[Path]) -> Tombstones:
    """Everybody's who is in the files. Raises: DecisionLogError: a tombstone is wrong."""
    found = Tombstones()
    for path in files:
        for _, line in read_lines(path, only=b'"forgotten"'):
            if isinstance(line, Forgotten):
                found.add(line)
    return found


def read_decisions(
    directory: Path, tally: Tally, window_s: float = WINDOW_S, since: float = -math.inf
) -> Iterator[Joined]:
    """Decisions and their feedback, in the order of time.

    Args:
        tally: counts while it is read; whole when all is read.
        since: unix seconds; decisions from before are counted alone.

    Raises:
        DecisionLogError: no log is there, or a line is wrong.
        ValueError: the window is no time.
    """
    for joined in _joined(directory, tally, window_s):
        if joined.decision.at < since:
            tally.earlier += 1
        else:
            yield joined


def _joined(directory: Path, tally: Tally, window_s: float) -> Iterator[Joined]:
    if not window_s > 0:
        raise ValueError(f"window: expected more than 0 seconds, got {window_s:g}")
    files = log_files(directory)
    forgotten = tombstones(files)
    waiting: dict[str, _Waiting] = {}  # the oldest first
    past: dict[str, float] = {}  # those given out, to tell what is late
    now = -math.inf
    early: dict[str, list[Feedback]] = {}  # whose decision has not come yet, the oldest first
    for line in _in_order(files, tally):
        now = line.at
        while waiting and (first := next(iter(waiting.values()))).until < now:
            assert first.decision.id is not None
            past[first.decision.id] = first.until + window_s
            del waiting[first.decision.id]
            if not first.forgotten:
                yield first.joined(tally)
        while past and next(iter(past.values())) < now:
            del past[next(iter(past))]
        while early and next(iter(early.values()))[0].at < now - DISORDER_S:
            tally.unknown_events += _events(early.pop(next(iter(early))))
        if isinstance(line, Decision):
            if line.id is None:
                tally.without_id += 1
            elif line.id in waiting or line.id in past:
                tally.repeated += 1
            else:
                hidden = forgotten.cover(line.user_id, line.at)
                tally.forgotten += hidden
                waiting[line.id] = to = _Waiting(line, line.at + window_s, hidden)
                for feedback in early.pop(line.id, ()):
                    to.add(feedback, tally)
        elif isinstance(line, Feedback):
            if forgotten.cover(line.user_id, line.at):
                tally.forgotten_events += len(line.outcomes)
            elif line.id in waiting:
                waiting[line.id].add(line, tally)
            elif line.id in past:
                tally.late_events += len(line.outcomes)
            else:
                early.setdefault(line.id, []).append(line)
    tally.unknown_events += sum(map(_events, early.values()))
    for left in waiting.values():
        if not left.forgotten:
            tally.open += left.until > now
            yield left.joined(tally)


def ranked_as_of(decision: Decision) -> float:
    """The unix seconds that ages were counted back from: `context.timestamp`, in whatever unit, or `at`."""
    timestamp = decision.context.get("timestamp")
    return decision.at if timestamp is None else unix_seconds(float(timestamp))


def matrix_values(decision: Decision) -> NDArray[np.float32]:
    """The numbers of its matrix, NaN where absent. `[N, names]`. Raises: ValueError: they are not so many."""
    assert decision.matrix is not None
    data, shape = a2b_base64(decision.matrix.data), (len(decision.items), len(decision.matrix.names))
    if len(data) != 4 * shape[0] * shape[1]:
        raise ValueError(f"matrix.data: {len(data)} bytes, expected {shape[0]} x {shape[1]} float32")
    return np.frombuffer(data, "<f4").reshape(shape)


@dataclass(slots=True)
class _Waiting:
    """A decision whose window is not over, and what has come of it."""

    decision: Decision
    until: float
    forgotten: bool
    outcomes: list[Outcome] = field(default_factory=list)
    event_ids: set[str] = field(default_factory=set)
    lines: set[Feedback] = field(default_factory=set)

    def add(self, line: Feedback, tally: Tally) -> None:
        if self.forgotten:
            tally.forgotten_events += len(line.outcomes)
            return
        if line in self.lines:
            tally.repeated_events += len(line.outcomes)
            return
        self.lines.add(line)
        shown = {self.decision.items[index].id for index in self.decision.slate}
        for outcome in line.outcomes:
            if outcome.event_id is not None and outcome.event_id in self.event_ids:
                tally.repeated_events += 1
            elif outcome.item_id not in shown:
                tally.foreign_events += 1
            else:
                if outcome.event_id is not None:
                    self.event_ids.add(outcome.event_id)
                self.outcomes.append(outcome)

    def joined(self, tally: Tally) -> Joined:
        tally.decisions += 1
        tally.fallbacks += self.decision.fallback is not None
        tally.events += len(self.outcomes)
        return Joined(self.decision, tuple(self.outcomes))


def _events(lines: Iterable[Feedback]) -> int:
    return sum(len(line.outcomes) for line in lines)


def _in_order(files: Sequence[Path], tally: Tally) -> Iterator[Line]:
    """The lines of all files by time. A file is open only while its lines are due."""
    starts = ((next((line.at for _, line in read_lines(path, tally)), None), path) for path in files)
    coming = sorted(((at - DISORDER_S, path) for at, path in starts if at is not None), reverse=True)
    due: list[tuple[float, int, Line, Iterator[Line]]] = []  # the next line of every open file
    opened = 0
    while coming or due:
        if coming and (not due or coming[-1][0] <= due[0][0]):
            lines = _sorted(read_lines(coming.pop()[1], tally))
            if first := next(lines, None):
                heapq.heappush(due, (first.at, opened, first, lines))
                opened += 1
        else:
            _, number, line, lines = due[0]
            yield line
            if after := next(lines, None):
                heapq.heapreplace(due, (after.at, number, after, lines))
            else:
                heapq.heappop(due)


def _sorted(lines: Iterator[tuple[bytes, Line]]) -> Iterator[Line]:
    """Lines that are nearly in order, in order."""
    held: list[tuple[float, int, Line]] = []
    latest = -math.inf
    for number, (_, line) in enumerate(lines):
        latest = max(latest, line.at)
        heapq.heappush(held, (line.at, number, line))
        while held[0][0] < latest - DISORDER_S:
            yield heapq.heappop(held)[2]
    while held:
        yield heapq.heappop(held)[2]


def _check(decision: Decision) -> None:
    """What the types do not say. Raises: ValueError: names the key."""
    items = [item.id for item in decision.items]
    if len(set(items)) < len(items):
        raise ValueError("items: an id comes twice")
    if any(index >= len(items) for index in decision.slate):
        raise ValueError(f"slate: an index past the last of {len(items)} items")
    if len(set(decision.slate)) < len(decision.slate):
        raise ValueError("slate: an item comes twice")
    written = len(decision.probability)
    if written > len(decision.slate):
        raise ValueError(f"probability: {written} of a slate of {len(decision.slate)}")
    for name in ("propensity", "reasoning_tokens", "entropy_before", "entropy_after"):
        if len(getattr(decision, name)) not in (written, 0):
            raise ValueError(f"{name}: {len(getattr(decision, name))} positions, probability has {written}")
    if decision.matrix is not None:
        matrix_values(decision)
    try:
        ranked_as_of(decision)
    except (TypeError, ValueError) as error:
        raise ValueError(f"context.timestamp: {error}") from None


def _until_cut(lines: Iterable[bytes]) -> Iterator[bytes]:
    """As far as one that has no end yet: what is written meanwhile would be read as a line of its own."""
    for text in lines:
        yield text
        if not text.endswith(b"\n"):
            return


def _opened(path: Path) -> IO[bytes]:
    if path.suffix != ".gz":
        try:
            return path.open("rb")
        except FileNotFoundError:  # it was compressed since it was found
            path = _packed(path)
    return cast(IO[bytes], gzip.open(path, "rb"))


def _packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")
