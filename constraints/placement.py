"""Which kinds may stand at the next position of a slate, in machine code.

One definition for training, for the step graph's host and for the compiled kernel. A *witness* is a slate
that satisfies everything and begins as what was placed. A kind may stand if it fits into a witness in place
of what is there, or by exchanging two positions of it, or if a search finds another; the kind that the
witness has always may, so that no slate ever comes to a dead end.

`data` and `at` are a row and its `Layout`. Legend: as in `constraints.layout`.
"""

import numpy as np

from bundle.compiled import compiled
from constraints.layout import BITS, EFFORT, NONE, WITNESSES, lay_out
from constraints.search import FOUND, LATE, UNKNOWN, search
from constraints.standing import (
    bar_neighbours,
    counts_there,
    fits,
    is_in,
    look_around,
    most_beside,
    put,
    start,
)

AGAIN, FIRST_SWAP = -2, -3
"""AGAIN: into a witness that was not kept, to be searched for again."""

SHARES = 8
"""One search may take the slate's effort divided by this."""

NO_LIMIT = np.iinfo(np.int64).max


@compiled
def begin(packed, data, at, effort):  # type: ignore[no-untyped-def]
    """Nothing is placed yet; writes all of `data`, `[at.end]`."""
    for i in range(at.packed_end):
        data[i] = packed[i]
    start(data, at, effort)
    if at.counted == 1:
        return
    for r in range(at.rules):
        data[at.pool_used + r] = 0
    for position in range(at.length):
        k = data[at.witness + position]
        data[at.pool_kinds + position] = k
        source = at.pin_masks + position * at.words if k == NONE else at.masks + k * at.words
        for w in range(at.words):
            data[at.pool_rows + position * at.words + w] = data[source + w]
        for r in range(at.rules):
            if counts_there(data, at, position, r):
                data[at.pool_used + r] += is_in(data, at, at.pool_rows, position, r)


@compiled
def _read_witness(data, at, p, position):  # type: ignore[no-untyped-def]
    """What a witness asks of a kind that would stand at the position instead."""
    rows, used = at.pool_rows + p * at.length * at.words, at.pool_used + p * at.rules
    bars, needs, ahead = at.bars + p * at.words, at.needs + p * at.words, at.ahead + p * at.kinds
    for k in range(at.kinds):
        data[ahead + k] = 0
    for s in range(position + 1, at.length):
        k = data[at.pool_kinds + p * at.length + s]
        if k != NONE:
            data[ahead + k] += 1
    for w in range(at.words):
        data[bars + w] = data[needs + w] = 0
    bar_neighbours(data, at, rows, position, at.length, bars)
    for r in range(at.tallied):
        if data[at.span + r] >= at.length:
            others = data[used + r] - is_in(data, at, rows, position, r)
        else:
            others = most_beside(data, at, rows, position, r, at.length)
        if others >= data[at.counts + r]:
            data[bars + r // BITS] |= 1 << (r % BITS)
    for r in range(at.caps, at.rules):
        here = is_in(data, at, rows, position, r)
        if position < data[at.span + r] and data[used + r] - here < data[at.counts + r]:
            data[needs + r // BITS] |= 1 << (r % BITS)


@compiled
def _swap(data, at, position, other):  # type: ignore[no-untyped-def]
    a, b = at.pool_kinds + position, at.pool_kinds + other
    data[a], data[b] = data[b], data[a]
    for w in range(at.words):
        a, b = at.pool_rows + position * at.words + w, at.pool_rows + other * at.words + w
        data[a], data[b] = data[b], data[a]


@compiled
def _can_swap(data, at, position, other):  # type: ignore[no-untyped-def]
    """Whether the first witness still holds with two positions exchanged, the first before the second."""
    for i in range(2):
        k = data[at.pool_kinds + (position if i == 0 else other)]
        for j in range(data[at.first + k], data[at.first + k + 1]):
            r = data[at.member + j]
            leaves = i == 0 and r >= at.caps and position < data[at.span + r] <= other
            needed = data[at.pool_used + r] <= data[at.counts + r]
            if leaves and needed and not is_in(data, at, at.pool_rows, other, r):
                return False
    _swap(data, at, position, other)
    holds = True
    for i in range(2):
        here = position if i == 0 else other
        k = data[at.pool_kinds + here]
        for j in range(data[at.first + k], data[at.first + k + 1]):
            r = data[at.member + j]
            if r < at.caps and data[at.span + r] < at.length:
                others = most_beside(data, at, at.pool_rows, here, r, at.length)
                holds &= others < data[at.counts + r]
    _swap(data, at, position, other)
    return holds


@compiled
def _into_a_witness(data, at, k, position, witnesses):  # type: ignore[no-untyped-def]
    """What `via` says of a kind, NONE where it fits into none as they are."""
    if k == data[at.pool_kinds + position]:
        return 0
    for p in range(witnesses):
        spare = data[at.left + k] > data[at.ahead + p * at.kinds + k]
        if spare and fits(data, at, k, at.bars + p * at.words, at.needs + p * at.words):
            return p
    if data[at.ahead + k] > 0:
        for s in range(position + 1, at.length):
            if data[at.pool_kinds + s] == k and _can_swap(data, at, position, s):
                return FIRST_SWAP - s
    return NONE


@compiled
def _find(data, at, position, k, into, effort, deadline):  # type: ignore[no-untyped-def]
    """Search for a witness with kind `k` at the position, and keep it as number `into`, if that is one."""
    put(data, at, position, k, 1)
    outcome = search(data, at, position + 1, at.length, True, effort, deadline)
    if outcome == FOUND:
        if into < WITNESSES:
            for i in range(at.length):
                data[at.pool_kinds + into * at.length + i] = data[at.standing + i]
            for i in range(at.length * at.words):
                data[at.pool_rows + into * at.length * at.words + i] = data[at.rows + i]
            for r in range(at.rules):
                data[at.pool_used + into * at.rules + r] = data[at.used + r]
        for s in range(at.length - 1, position, -1):
            if data[at.pins + s] == NONE:
                put(data, at, s, data[at.standing + s], -1)
    put(data, at, position, k, -1)
    return outcome


@compiled
def _allow_by_counts(data, at, position, blocked, urgent):  # type: ignore[no-untyped-def]
    """Where counts decide: `counts_hold` with one of each kind placed. What caps leave room for keeps the
    slate long enough, for it is independent in a matroid, whose rank its contraction lowers by one. Floors
    are counted for the groups that it is in alone, because nothing changes elsewhere."""
    groups = at.groups
    tops = np.empty(at.rules - at.caps, np.int64)
    count = 0
    for f in range(at.caps, at.rules):  # they ascend
        top = data[at.span + f]
        if top > position and (count == 0 or tops[count - 1] != top):
            tops[count] = top
            count += 1
    room, members = np.full(groups + 1, data[at.remaining]), np.zeros(groups + 1, np.int64)
    own, below = np.zeros((count, groups + 1), np.int64), np.zeros((count, groups + 1), np.int64)
    if count:
        for k in range(at.kinds):
            members[data[at.group_of_kind + k]] += data[at.left + k]
        for r in range(at.caps):
            g = data[at.group_of + r]
            room[g] = min(room[g], data[at.counts + r] - data[at.used + r])
        for f in range(at.caps, at.rules):
            for t in range(count):
                if data[at.span + f] <= tops[t]:
                    g = data[at.group_of + f]
                    own[t, g] = max(own[t, g], data[at.counts + f] - data[at.used + f])
        for g in range(groups):
            above = data[at.parent + g]
            members[above] += min(members[g], room[g])
            for t in range(count):
                below[t, above] += max(below[t, g], own[t, g])
    for k in range(at.kinds):
        if data[at.left + k] == 0 or not fits(data, at, k, blocked, urgent):
            continue
        holds = True
        for t in range(count):
            fewer, less, g = 1, 0, data[at.group_of_kind + k]  # of members that may come, and of demand
            while holds and g < groups:
                fill = min(members[g] - fewer, room[g] - 1)
                demand = max(below[t, g] - less, own[t, g] - 1)
                holds = demand <= fill
                fewer = min(members[g], room[g]) - fill
                less = max(below[t, g], own[t, g]) - demand
                g = data[at.parent + g]
            holds &= below[t, groups] - less <= data[at.free + tops[t]] - data[at.free + position + 1]
        if holds:
            data[at.via + k] = 0


@compiled
def look_ahead(data, at):  # type: ignore[no-untyped-def]
    """Forget which kinds might stand before, and tell at once where counts do.

    Returns:
        How many witnesses `judge` begins with; 0 where all is told: by counts, at a pin, or past the end.
    """
    position = data[at.placed]
    for k in range(at.kinds):
        data[at.via + k] = NONE
    if position >= at.length or data[at.pins + position] != NONE:
        return 0
    blocked, urgent = at.blocked + at.length * at.words, at.urgent + at.length * at.words
    look_around(data, at, position, blocked, urgent)
    if at.counted == 1:
        _allow_by_counts(data, at, position, blocked, urgent)
        return 0
    _read_witness(data, at, 0, position)
    return 1


@compiled
def judge(data, at, k, witnesses, deadline):  # type: ignore[no-untyped-def]
    """Write to `via` whether a kind may stand at the next position, after `look_ahead`.

    Returns:
        How many witnesses there are then; LATE after `deadline`, in seconds of `time.monotonic()`.
    """
    position = data[at.placed]
    blocked, urgent = at.blocked + at.length * at.words, at.urgent + at.length * at.words
    if data[at.left + k] == 0 or not fits(data, at, k, blocked, urgent):
        return witnesses
    via = _into_a_witness(data, at, k, position, witnesses)
    if via == NONE:
        outcome = UNKNOWN
        effort = min(data[at.effort], max(1, 2 * at.memory_size // SHARES))
        if effort > 0:
            outcome = _find(data, at, position, k, witnesses, effort, deadline)
        if outcome == LATE:
            return LATE
        if outcome == UNKNOWN:
            data[at.undecided] += 1
        elif outcome == FOUND and witnesses < WITNESSES:
            _read_witness(data, at, witnesses, position)
            via = witnesses
            witnesses += 1
        elif outcome == FOUND:
            via = AGAIN
    data[at.via + k] = via
    return witnesses


@compiled
def allow(data, at, deadline):  # type: ignore[no-untyped-def]
    """Write to `via` which kinds may stand at the next position: those with another number than NONE. None
    may where it is pinned or past the end.

    Returns:
        Whether there was time: False after `deadline`, in seconds of `time.monotonic()`.
    """
    position = data[at.placed]
    if data[at.looked_at] == position:
        return True
    witnesses = look_ahead(data, at)
    if witnesses > 0:
        for k in range(at.kinds):
            witnesses = judge(data, at, k, witnesses, deadline)
            if witnesses == LATE:
                return False
    data[at.looked_at] = position
    return True


@compiled
def may_stand(data, at, item):  # type: ignore[no-untyped-def]
    """Whether a candidate that is left may stand at the next position, after `allow`."""
    kind = data[at.kind + item]
    if kind == NONE:
        return data[at.placed] < at.length and data[at.pins + data[at.placed]] == item
    return data[at.via + kind] != NONE


@compiled
def _replace(data, at, position, k):  # type: ignore[no-untyped-def]
    """Put one of kind `k` at a position of the first witness."""
    for sign in (-1, 1):
        other = k if sign == 1 else data[at.pool_kinds + position]
        for i in range(data[at.first + other], data[at.first + other + 1]):
            r = data[at.member + i]
            if counts_there(data, at, position, r):
                data[at.pool_used + r] += sign
    data[at.pool_kinds + position] = k
    for w in range(at.words):
        data[at.pool_rows + position * at.words + w] = data[at.masks + k * at.words + w]


@compiled
def place(data, at, k):  # type: ignore[no-untyped-def]
    """Place one of a kind that `allow` allowed; NONE is the pinned one."""
    position = data[at.placed]
    data[at.placed] += 1
    if k == NONE:
        return
    if at.counted == 0:
        via = data[at.via + k]
        if via == AGAIN:  # as it was found before, in no more states
            _find(data, at, position, k, 0, NO_LIMIT, np.inf)
        elif via <= FIRST_SWAP:
            _replace(data, at, FIRST_SWAP - via, data[at.pool_kinds + position])
        elif via > 0:
            for i in range(at.length):
                data[at.pool_kinds + i] = data[at.pool_kinds + via * at.length + i]
            for i in range(at.length * at.words):
                data[at.pool_rows + i] = data[at.pool_rows + via * at.length * at.words + i]
            for r in range(at.rules):
                data[at.pool_used + r] = data[at.pool_used + via * at.rules + r]
        _replace(data, at, position, k)
    put(data, at, position, k, 1)


@compiled
def begun(packed):  # type: ignore[no-untyped-def]
    """What is written while a slate is, of a row of `constraints.tracking.stack`."""
    at = lay_out(packed, packed[EFFORT])
    data = np.empty(at.end, np.int64)
    begin(packed, data, at, packed[EFFORT])
    return data


@compiled
def which_may(packed, data, left, count, may, deadline):  # type: ignore[no-untyped-def]
    """Write those of `count` candidates left that may stand next, in their order, and return how many there
    are; 0 after `deadline`, in seconds of `time.monotonic()`."""
    at = lay_out(packed, packed[EFFORT])
    if not allow(data, at, deadline):
        return 0
    found = 0
    for j in range(count):
        if may_stand(data, at, left[j]):
            may[found] = left[j]
            found += 1
    return found


@compiled
def placed(packed, data, item):  # type: ignore[no-untyped-def]
    """Place a candidate that may stand next."""
    at = lay_out(packed, packed[EFFORT])
    place(data, at, data[at.kind + item])
