"""Values in a temporary file, for what would not fit into memory, where only their ends are.

Knows nothing of what the values are. Each is made anew whenever it is read.
"""

import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

from bundle.errors import RerankerError

T = TypeVar("T")

BUFFER_BYTES = 1 << 20


class OnDisk(Generic[T]):
    """Values by number, in the order in which they were added. The file has no name, and goes with them."""

    def __init__(self) -> None:
        """Raises: RerankerError: no file can be made where `TMPDIR` says."""
        # not with `tempfile`'s second choices: there may be no room there, or memory in the place of a disk
        self._directory = os.environ.get("TMPDIR") or tempfile.gettempdir()
        try:
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._directory)  # noqa: SIM115
        except OSError as error:
            raise self._told(error) from error
        weakref.finalize(self, self._file.close)
        self._ends = array("q")
        self._waiting, self._written = bytearray(), 0

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, value: T) -> None:
        """Raises: RerankerError: there is no room for it."""
        self._waiting += pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._ends.append(self._written + len(self._waiting))
        if len(self._waiting) >= BUFFER_BYTES:
            self._write()

    def read(self, number: int) -> T:
        start, end = self._ends[number - 1] if number else 0, self._ends[number]
        if end > self._written:
            self._write()
        value: T = pickle.loads(os.pread(self._file.fileno(), end - start, start))
        return value

    def _write(self) -> None:
        waiting = bytes(self._waiting)
        try:
            while waiting:
                waiting = waiting[self._file.write(waiting) :]
        except OSError as error:
            raise self._told(error) from error
        self._written += len(self._waiting)
        self._waiting.clear()

    def _told(self, error: OSError) -> RerankerError:
        what = error.strerror or error
        return RerankerError(f"{self._directory}: {what}; set TMPDIR to where there is room")


class Numbered(Sequence[T], Generic[T]):
    """What a function gives for numbers."""

    def __init__(self, read: Callable[[int], T], numbers: range) -> None:
        self._read, self._numbers = read, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return Numbered(self._read, self._numbers[index])
        return self._read(self._numbers[index])
