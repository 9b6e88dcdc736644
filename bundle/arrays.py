"""Tensors by name, as they cross from features to the engine, and as a bundle's files hold them.

`bundle.contract` has the names.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import MAX_FILE_BYTES, BundleError

Arrays = dict[str, NDArray[Any]]
Named = Mapping[str, NDArray[Any]]
"""The same, where it is only read."""

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    BadZipFile,
    ZlibError,
)


def read_arrays(path: Path, may_be_absent: Collection[str] = ()) -> Arrays:
    """The arrays of an `.npz` file. Nothing in it is run.

    Args:
        may_be_absent: names of arrays in which NaN means that there is none.

    Raises:
        BundleError: it is no such file, too large when unpacked, has Python objects in it, or numbers that
            are not finite.
    """
    try:
        with ZipFile(path) as packed:
            size = sum(member.file_size for member in packed.infolist())
        if size > MAX_FILE_BYTES:
            raise BundleError(f"{path}: {size} bytes when unpacked, more than {MAX_FILE_BYTES}")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except _UNREADABLE as error:
        raise BundleError(f"{path}: not arrays: {error}") from error
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            if name in may_be_absent and not np.isinf(array).any():
                continue
            raise BundleError(f"{path}: {name}: not all numbers are finite")
    return arrays
