"""Functions compiled to machine code by Numba, on first use, and then cached.

The cache is beside the source where that can be written, or has been: an image is built with it
(`engine.precompile`), and is read-only when it runs. Else it is the user's own, or there is none.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.core import caching

SUMS_IN_ANY_ORDER = {"reassoc", "contract", "nsz", "arcp"}
"""What vector instructions need of float arithmetic; infinities and NaN keep their meaning."""

CLOCK_MONOTONIC = int(time.CLOCK_MONOTONIC)
clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.voidptr))
"""The C library's, found by its name, so that code that calls it can be cached; glibc and musl have it."""

PORTABLE, ITS_FEATURES = "x86-64-v3", ("avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
"""What images are compiled for (`NUMBA_CPU_NAME`): x86 processors since 2013 (Haswell), 2015 (Excavator)."""

config: Any = numba.config
if config.CPU_NAME == PORTABLE:
    _host = llvmlite.binding.get_host_cpu_features()
    if not all(_host.get(name, False) for name in ITS_FEATURES):
        config.CPU_NAME = config.CPU_FEATURES = None  # compiled anew, for this one


ROOT = Path(__file__).parents[1]
SOURCES = ("bundle", "bundle/features", "constraints", "engine/native")
"""Folders of all that is compiled, and of the constants it is compiled with."""


def stamp(root: Path) -> tuple[tuple[float, int], ...]:
    """When the sources were changed, and their sizes: any of them may be part of another's machine code, of
    which Numba by itself looks at the one file only."""
    stats = [file.stat() for source in SOURCES for file in sorted((root / source).glob("*.py"))]
    return tuple((stat.st_mtime, stat.st_size) for stat in stats)


_STAMP = stamp(ROOT)


class _Baked(caching.InTreeCacheLocator):
    """What lies beside the source, and nothing is added to."""

    def ensure_cache_path(self) -> None:
        """Raises: OSError: nothing does."""
        if not any(Path(self._cache_path).glob("*.nbi")):
            raise FileNotFoundError(self._cache_path)


class _Places(caching.CompileResultCacheImpl):
    _locator_classes = [  # noqa: RUF012, as in what it overrides
        caching.UserProvidedCacheLocator,
        caching.InTreeCacheLocator,
        _Baked,
        caching.UserWideCacheLocator,
    ]


class _Cache(caching.FunctionCache):
    """Where nothing can be written, what is missing is compiled, and that is all."""

    _impl_class = _Places

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._cache_file._source_stamp = _STAMP

    def save_overload(self, *compiled: Any) -> None:
        with suppress(OSError):
            super().save_overload(*compiled)  # type: ignore[no-untyped-call]


def compiled(function: Callable[..., Any]) -> Any:
    """Runs without the interpreter's lock, so what it writes must be its caller's own."""
    dispatcher: Any = numba.njit(nogil=True, fastmath=SUMS_IN_ANY_ORDER, error_model="numpy")(function)
    with suppress(RuntimeError):  # no place to keep a cache, such as a read-only container without a home
        dispatcher._cache = _Cache(function)
    return dispatcher


@compiled
def monotonic(reading):  # type: ignore[no-untyped-def]
    """`time.monotonic()`. `reading`, `[2] int64`, is to be overwritten."""
    clock_gettime(CLOCK_MONOTONIC, reading.ctypes)
    return np.float64(reading[0]) + np.float64(reading[1]) * 1e-9
