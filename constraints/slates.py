"""Whole slates in machine code: the longest there is, and the first in an order.

Legend: as in `constraints.layout`.
"""

import numpy as np

from bundle.compiled import compiled
from constraints.layout import EFFORT, NONE, lay_out
from constraints.placement import NO_LIMIT, begun, judge, look_ahead, may_stand, place
from constraints.search import FOUND, UNKNOWN, counts_hold, search
from constraints.standing import pin_fits, start


@compiled
def find_longest(packed, effort, slate):  # type: ignore[no-untyped-def]
    """Write the longest slate, `[L]` items, of which one is found within `effort` states.

    Returns:
        Its length, -1 where there is none; whether there is certainly no longer one; whether it was written:
        where counts decide, what is shorter than L is to be packed for its length first; the states it took.
    """
    at = lay_out(packed, 4 * effort)  # all that it goes through is remembered
    data = np.empty(at.end, np.int64)
    data[: at.packed_end] = packed[: at.packed_end]
    start(data, at, effort)
    last_pin = data[at.last_pin]
    for r in range(at.caps):
        if data[at.span + r] >= at.length and data[at.used + r] > data[at.counts + r]:
            return -1, True, False, 0
    for position in range(at.length):
        if data[at.pins + position] != NONE and not pin_fits(data, at, position):
            return -1, True, False, 0
    least = at.length
    if at.counted == 1:
        while least > last_pin and not counts_hold(data, at, 0, least):
            least -= 1
        if least <= last_pin:
            return -1, True, False, 0
        if least < at.length:
            return least, True, False, 0
    states = 0
    while True:  # first one of full length, then as long as can be
        outcome = search(data, at, 0, least, False, NO_LIMIT if at.counted == 1 else effort // 2, np.inf)
        states += effort - data[at.effort]
        if outcome == FOUND:
            _write_items(data, at, at.standing, at.length, slate)
            return at.length, True, True, states
        if least == 0:
            break
        least = 0
        start(data, at, effort)
    best = data[at.best]
    _write_items(data, at, at.best_kinds, best, slate)
    return best, outcome != UNKNOWN, True, states


@compiled
def _write_items(data, at, kinds, length, slate):  # type: ignore[no-untyped-def]
    """The first candidates of each kind."""
    taken = np.zeros(at.kinds, np.int64)
    for position in range(length):
        k = data[kinds + position]
        if k == NONE:
            slate[position] = data[at.pins + position]
            continue
        for item in range(taken[k], at.candidates):
            if data[at.kind + item] == k:
                slate[position] = item
                taken[k] = item + 1
                break


@compiled
def set_witness(packed, slate):  # type: ignore[no-untyped-def]
    """Pack the slate to begin with, `[L]` items."""
    at = lay_out(packed, 1)
    for position in range(at.length):
        packed[at.witness + position] = packed[at.kind + slate[position]]


@compiled
def write_in_order(packed, order, slate):  # type: ignore[no-untyped-def]
    """Write a slate, `[L]` items: at each position the first in `order` that may stand there."""
    data = begun(packed)
    at = lay_out(packed, packed[EFFORT])
    taken, judged = np.zeros(at.candidates, np.bool_), np.zeros(at.kinds, np.bool_)
    for position in range(at.length):
        witnesses = look_ahead(data, at)
        judged[:] = witnesses == 0
        for item in order:
            if taken[item]:
                continue
            kind = data[at.kind + item]
            if kind != NONE and not judged[kind]:  # no more of them than it takes: others may be thousands
                judged[kind] = True
                witnesses = judge(data, at, kind, witnesses, np.inf)
            if may_stand(data, at, item):
                place(data, at, kind)
                taken[item] = True
                slate[position] = item
                break
