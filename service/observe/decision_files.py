"""Lines in files of a directory that several processes may write to, each its own file at a time.

A file is closed once it is large or old enough. What nobody writes any more, this process or one that was
killed, is packed, and where all files together are too large, the oldest are removed: by a thread with the
lowest priority, for packing takes a while. Files are readable by their owner alone.
"""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread, get_native_id
from time import monotonic

from isal import igzip

from decisions.files import PLAIN, PREFIX, UNFINISHED, if_closed, listed, lock, new_name, packed
from service.settings import Settings

LEVEL = 1
"""Of igzip, which writes what gzip writes; higher ones take longer and pack hardly smaller."""

ROUND_S = 60.0
"""Between two looks at what others left, and at how much there is."""

AT_ONCE = 100
"""Lines of a write. While they are put together nobody else runs."""

A_READ = 1 << 18

logger = logging.getLogger(__name__)


class DecisionFiles:
    """A `decision_log.Sink`."""

    def __init__(self, directory: Path, settings: Settings, removed: Callable[[], None]) -> None:
        """
        Args:
            removed: told of every file that had to go.
        """
        self._directory = directory
        self._rotate_bytes, self._rotate_s = (
            settings.decision_log_rotate_bytes,
            settings.decision_log_rotate_s,
        )
        self._file: int | None = None
        self._path, self._size, self._close_at = directory, 0, 0.0
        keeping = settings.decision_log_gzip, settings.decision_log_max_bytes
        self._keeper = Keeper(directory, *keeping, removed)

    def start(self) -> None:
        self._keeper.start()

    def write(self, lines: list[bytes]) -> None:
        if self._file is not None and not os.fstat(self._file).st_nlink:
            self._close()  # somebody removed it: what is written there nobody will read
        while lines:
            if self._file is None:
                self._open()
            assert self._file is not None
            written, text = 0, memoryview(b"\n".join((*lines[:AT_ONCE], b"")))
            try:
                while written < len(text):
                    written += os.write(self._file, text[written:])
            except OSError:
                # What is whole counts. The file ends there if the disk lets it, and is not gone on with.
                whole = bytes(text[:written]).rfind(b"\n") + 1
                del lines[: bytes(text[:whole]).count(b"\n")]
                with suppress(OSError):
                    os.ftruncate(self._file, self._size + whole)
                    self._size += whole
                self._close()
                raise
            self._size += written
            del lines[:AT_ONCE]
            if self._size >= self._rotate_bytes:
                self._close()

    def due_s(self) -> float | None:
        return None if self._file is None else self._close_at - monotonic()

    def tend(self) -> None:
        """Close a file that is old enough."""
        self._close()

    def close(self) -> None:
        self._close()
        self._keeper.stop()

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # one that is there stays as it is
        path = self._directory / new_name()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        file = os.open(path, flags, 0o600)
        try:
            lock(file)
        except OSError:
            os.close(file)
            raise
        self._file, self._path, self._size = file, path, 0
        self._close_at = monotonic() + self._rotate_s

    def _close(self) -> None:
        if self._file is None:
            return
        if not self._size:
            self._path.unlink(missing_ok=True)
        file, self._file = self._file, None
        with suppress(OSError):
            os.close(file)
        self._keeper.wake()


class Keeper(Thread):
    """Packs files that nobody writes, and removes the oldest of too many."""

    def __init__(
        self, directory: Path, packs: bool, max_bytes: int, removed: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(name="decision-files", daemon=True)
        self._directory, self._packs, self._max_bytes, self._removed = directory, packs, max_bytes, removed
        self._wake, self._over = Event(), Event()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """Does not wait: what is half packed is packed anew by whoever comes next."""
        self._over.set()
        self._wake.set()

    def run(self) -> None:
        with suppress(OSError, AttributeError):  # which only Linux has for a thread
            os.setpriority(os.PRIO_PROCESS, get_native_id(), 19)
        while not self._over.is_set():
            try:
                self.tidy()
            except OSError as error:
                logger.warning("files of the decision log are left as they are: %s", error.strerror)
            self._wake.wait(ROUND_S)
            self._wake.clear()

    def tidy(self) -> None:
        """Raises: OSError."""
        try:
            if self._packs:
                for path in self._directory.glob(f"{PREFIX}*{PLAIN}"):
                    if self._over.is_set():
                        return
                    self._pack(path)
        finally:
            self._make_room()  # all the more where there was none to pack in

    def _make_room(self) -> None:
        sizes = {}
        for path in listed(self._directory):
            with suppress(FileNotFoundError):
                sizes[path] = path.stat().st_size
        excess = sum(sizes.values()) - self._max_bytes
        for path, size in sizes.items():
            if excess <= 0:
                break
            with if_closed(path) as closed:
                if closed is not None:
                    path.unlink(missing_ok=True)
                    self._removed()
                    excess -= size

    def _pack(self, path: Path) -> None:
        with if_closed(path) as closed:
            if closed is None:
                return
            if not packed(path).exists():
                unfinished = packed(path).with_suffix(packed(path).suffix + UNFINISHED)
                try:
                    whole = self._copy(closed, path.name, unfinished)
                except OSError:
                    unfinished.unlink(missing_ok=True)  # the disk may be full of it
                    raise
                if not whole:
                    return
                unfinished.replace(packed(path))
            path.unlink(missing_ok=True)

    def _copy(self, closed: int, name: str, unfinished: Path) -> bool:
        """Pack an open file. False if there was no time to. Raises: OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with (
            os.fdopen(os.open(unfinished, flags, 0o600), "wb") as file,
            igzip.IGzipFile(name, "wb", LEVEL, file) as packing,
            os.fdopen(os.dup(closed), "rb") as plain,
        ):
            while part := plain.read(A_READ):
                if self._over.is_set():
                    return False
                packing.write(part)
            packing.flush()
            os.fsync(file.fileno())
        return True
