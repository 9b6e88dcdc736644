"""Signs of life of workers, which their supervisor sees in memory they share."""

from mmap import mmap


class Heartbeats:
    """A counter for each worker. Made before the fork."""

    def __init__(self, workers: int) -> None:
        self._counts = memoryview(mmap(-1, 8 * workers)).cast("Q")

    def beat(self, worker: int) -> None:
        self._counts[worker] += 1

    def count(self, worker: int) -> int:
        return self._counts[worker]
