"""Constraints on one slate, over its candidates by index.

Legend: N candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bundle.errors import RerankerError

ONE_OF = " of "
"""In a name, between the rule as it was asked for and the one of several caps that it means."""


def rule_of(name: str) -> str:
    """The rule as it was asked for."""
    return name.partition(ONE_OF)[0]


@dataclass(frozen=True, eq=False)
class Cap:
    """At most `count` members in any `window` consecutive positions; None is the whole slate."""

    name: str  # where it was asked for, as an error names it: `constraints.at_most.0`
    members: NDArray[np.bool_]  # [N]
    count: int
    window: int | None = None


@dataclass(frozen=True, eq=False)
class Floor:
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


class ConflictError(RerankerError):
    """No slate satisfies these together; without any one of them one would, as far as that was tried."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(" and ".join(names))
        self.names = names
