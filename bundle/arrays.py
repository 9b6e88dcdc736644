"""Tensors by name, as they cross from features to the engine: `bundle.contract` has the names."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
Named = Mapping[str, NDArray[Any]]
"""The same, where it is only read."""
