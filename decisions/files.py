"""The files of a decision log: their names, which come first, and which of them nobody writes.

`decisions-<UTC time>-<random>.jsonl` is being written, or was by a process that was killed; `.jsonl.gz` is
closed. Whoever writes a file, or puts another in its place, holds a lock on it meanwhile, which ends with the
process. Readers need none.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

PREFIX, PLAIN, GZ, UNFINISHED = "decisions-", ".jsonl", ".gz", ".tmp"
PACKED = PLAIN + GZ


def new_name() -> str:
    """Of a file that is begun now: names sort by time, and no two processes make the same."""
    return f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{os.urandom(4).hex()}{PLAIN}"


def packed(path: Path) -> Path:
    """Where a plain file is packed to."""
    return path.with_name(path.name + GZ)


def listed(directory: Path) -> list[Path]:
    """All files of a log, the first begun first. One that was packed, but not yet removed, is left out."""
    found = [path for end in (PLAIN, PACKED) for path in directory.glob(f"{PREFIX}*{end}")]
    known = {*found}
    return sorted(path for path in found if packed(path) not in known)


def lock(descriptor: int) -> None:
    """Raises: BlockingIOError: somebody else has it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def if_closed(path: Path) -> Iterator[int | None]:
    """An open descriptor of a file that nobody writes, locked meanwhile; None if somebody does or it is gone.

    An empty file counts as being written: it is about to be.

    Raises: OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor if _is_mine(path, descriptor) else None
    finally:
        os.close(descriptor)


def _is_mine(path: Path, descriptor: int) -> bool:
    try:
        lock(descriptor)
        return os.path.samestat(os.stat(path), os.fstat(descriptor)) and os.fstat(descriptor).st_size > 0
    except (BlockingIOError, FileNotFoundError):
        return False
