"""Files of a decision log without the lines of people who asked to be forgotten.

A file is replaced as a whole, so that whoever reads finds either; what stops halfway is done the next time.
Files that somebody writes are left alone: they are closed soon, and done then. Tombstones stay, for a copy of
the log elsewhere may still have what they are about. A last line that was cut short goes: nobody can tell
whose it is.
"""

import gzip
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from decisions.files import GZ, PACKED, PLAIN, UNFINISHED, if_closed
from decisions.lines import Decision, Feedback
from decisions.reading import Tally, Tombstones, log_files, read_lines, tombstones

LEVEL = 6
"""Of gzip: nobody waits for this."""


@dataclass(slots=True)
class Compacted:
    """What was done.

    Attributes:
        files: that were rewritten.
        lines: that are gone.
        busy: files that somebody writes, or removed meanwhile.
    """

    files: int = 0
    lines: int = 0
    busy: int = 0


def compact(directory: Path) -> Compacted:
    """Rewrite the files that have lines of the forgotten.

    Raises:
        DecisionLogError: there is no log, or a line is wrong; files before it are done.
        OSError: a file cannot be read or replaced.
    """
    done, files = Compacted(), log_files(directory)
    forgotten = tombstones(files)
    for path in files:
        with if_closed(path) as closed:
            if closed is None:
                done.busy += path.exists() and path.stat().st_size > 0
            elif gone := _rewrite(path, forgotten):
                done.files, done.lines = done.files + 1, done.lines + gone
    for end in (PLAIN, PACKED):
        for path in directory.rglob(f"*{end}{UNFINISHED}"):
            _drop_unless_written(path)
    return done


def _drop_unless_written(unfinished: Path) -> None:
    """Remove what was left half done. Whoever makes it holds a lock on what it is made of."""
    result = unfinished.with_name(unfinished.name.removesuffix(UNFINISHED))
    with ExitStack() as stack:
        for path in {result, result.with_name(result.name.removesuffix(GZ))}:
            if stack.enter_context(if_closed(path)) is None and path.exists():
                return
        unfinished.unlink(missing_ok=True)


def _rewrite(path: Path, forgotten: Tombstones) -> int:
    """How many lines are gone from a file, which is replaced if there are any."""
    kept, gone, tally = path.with_name(path.name + UNFINISHED), 0, Tally()
    try:
        with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            packs = path.name.endswith(PACKED)
            out = gzip.GzipFile("", "wb", LEVEL, file) if packs else file
            for text, line in read_lines(path, tally):
                if isinstance(line, Decision | Feedback) and forgotten.cover(line.user_id, line.at):
                    gone += 1
                else:
                    out.write(text)
            if packs:
                out.close()
            file.flush()
            os.fsync(file.fileno())
        gone += tally.truncated
        if gone:
            kept.replace(path)
        return gone
    finally:
        with suppress(FileNotFoundError):
            kept.unlink()
