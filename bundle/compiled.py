"""Functions compiled to machine code by Numba, on first use, and then cached where that can be written."""

from collections.abc import Callable
from typing import Any

import numba

SUMS_IN_ANY_ORDER = {"reassoc", "contract", "nsz", "arcp"}
"""What vector instructions need of float arithmetic; infinities and NaN keep their meaning."""


def compiled(function: Callable[..., Any]) -> Any:
    """Runs without the interpreter's lock, so what it writes must be its caller's own."""
    options: Any = {"nogil": True, "fastmath": SUMS_IN_ANY_ORDER, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no place to keep a cache, such as a read-only container without a home
        return numba.njit(**options)(function)
