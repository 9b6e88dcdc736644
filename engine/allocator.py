"""The C library's allocator, told to keep what is freed.

A batch needs the same few megabytes each time. Left alone, glibc gives them back after every batch, and
the kernel has to find and clear the same pages for the next one.
"""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
LARGEST_KEPT_MIB = 32
"""Larger pieces go back at once, whatever is asked for: the most that glibc allows."""


def keep_freed(mib: int) -> bool:
    """Let the process keep up to `mib` MiB of freed memory; with 0 everything stays as it is.

    Returns:
        Whether there is an allocator that listens. glibc's does; musl's and others have no such settings.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is None or not mib:
        return False
    pieces = min(mib, LARGEST_KEPT_MIB)
    return bool(tune(TRIM_THRESHOLD, mib << 20) and tune(MMAP_THRESHOLD, pieces << 20))
