"""Constraints on one slate, over its candidates by index.

Legend: N candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Cap(NamedTuple):
    """At most `count` members in any `window` consecutive positions; None is the whole slate."""

    name: str  # where it was asked for, as an error names it: `constraints.at_most.0`
    members: NDArray[np.bool_]  # [N]
    count: int
    window: int | None = None


class Floor(NamedTuple):
    """At least `count` members in the first `top` positions."""

    name: str
    members: NDArray[np.bool_]  # [N]
    count: int
    top: int


@dataclass(frozen=True)
class Constraints:
    """Excluded items are no candidates, so nothing here speaks of them.

    Attributes:
        pins: the candidate that stands at a position, counted from 0.
        pin_names: where each pin was asked for, by position.
    """

    pins: Mapping[int, int] = field(default_factory=dict)
    pin_names: Mapping[int, str] = field(default_factory=dict)
    caps: tuple[Cap, ...] = ()
    floors: tuple[Floor, ...] = ()


class ConflictError(ValueError):
    """No slate satisfies these together; without any one of them, one would."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(" and ".join(names))
        self.names = names
