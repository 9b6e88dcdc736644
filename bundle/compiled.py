"""Functions compiled to machine code by Numba, on first use, and then cached where that can be written."""

import time
from collections.abc import Callable
from typing import Any

import numba
from numba import types

SUMS_IN_ANY_ORDER = {"reassoc", "contract", "nsz", "arcp"}
"""What vector instructions need of float arithmetic; infinities and NaN keep their meaning."""

CLOCK_MONOTONIC = int(time.CLOCK_MONOTONIC)
clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.voidptr))
"""The C library's, found by its name, so that code that calls it can be cached; glibc and musl have it."""


def compiled(function: Callable[..., Any]) -> Any:
    """Runs without the interpreter's lock, so what it writes must be its caller's own."""
    options: Any = {"nogil": True, "fastmath": SUMS_IN_ANY_ORDER, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no place to keep a cache, such as a read-only container without a home
        return numba.njit(**options)(function)
