"""A batch of slates that someone else writes, an item at a time: which candidates may stand next.

Legend: B requests, N candidates, S numbers of a packed row.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.compiled import compiled
from constraints.layout import EFFORT, KINDS, NONE, Ints, lay_out
from constraints.placement import allow, begin, may_stand, place
from constraints.planning import Plan


def stack(plans: Sequence[Plan | None]) -> Ints:
    """Packed rows of a batch, `[B, S]`, S 0 where no request has constraints (`constraints.layout`)."""
    asked = [plan for plan in plans if plan is not None]
    if not asked:
        return np.empty((len(plans), 0), np.int64)
    if len(plans) == 1:
        return asked[0].packed[None]
    size = max(len(plan.packed) for plan in asked)
    rows = np.full((len(plans), size), NONE, np.int64)
    for row, plan in zip(rows, plans, strict=True):
        if plan:
            row[: len(plan.packed)] = plan.packed
    return rows


class Tracker:
    """What was placed in each slate of a batch. Where nothing is asked, every candidate that is left may."""

    def __init__(self, packed: Ints) -> None:
        """`packed`: `[B, S]`, as `stack` returns it."""
        self._packed = packed
        self._data = np.empty((len(packed), _room(packed) if packed.shape[1] else 0), np.int64)
        if self.constrains:
            _begin(packed, self._data)

    @property
    def constrains(self) -> bool:
        """Whether anything is asked of any slate."""
        return bool(self._data.shape[1])

    def narrowed(self, left: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Those of the candidates left, `[B, N] bool`, that may stand at each slate's next position; none
        past the end."""
        selectable = left.copy()
        if self.constrains:
            _narrow(self._packed, self._data, selectable)
        return selectable

    def place(self, chosen: Ints, left: NDArray[np.bool_]) -> None:
        """Place a candidate in each slate, `[B]`, and take it from those left; none where it is negative."""
        rows = np.flatnonzero(chosen >= 0)
        left[rows, chosen[rows]] = False
        if self.constrains:
            _place(self._packed, self._data, chosen)


@compiled
def _room(packed):  # type: ignore[no-untyped-def]
    """Numbers that the longest row of `_data` has."""
    most = 0
    for row in range(packed.shape[0]):
        if packed[row, KINDS] >= 0:
            most = max(most, lay_out(packed[row], packed[row, EFFORT]).end)
    return most


@compiled
def _begin(packed, data):  # type: ignore[no-untyped-def]
    for row in range(packed.shape[0]):
        if packed[row, KINDS] >= 0:
            effort = packed[row, EFFORT]
            begin(packed[row], data[row], lay_out(packed[row], effort), effort)


@compiled
def _narrow(packed, data, selectable):  # type: ignore[no-untyped-def]
    for row in range(packed.shape[0]):
        if packed[row, KINDS] < 0:
            continue
        at = lay_out(packed[row], packed[row, EFFORT])
        allow(data[row], at, np.inf)
        for item in range(at.candidates):
            selectable[row, item] &= may_stand(data[row], at, item)


@compiled
def _place(packed, data, chosen):  # type: ignore[no-untyped-def]
    for row in range(packed.shape[0]):
        if packed[row, KINDS] >= 0 and chosen[row] >= 0:
            at = lay_out(packed[row], packed[row, EFFORT])
            if data[row, at.placed] < at.length:
                place(data[row], at, data[row, at.kind + chosen[row]])
