"""What stands where while a slate is written, and which kinds a position has room for, in machine code.

`data` and `at` are a row and its `Layout`. Legend: as in `constraints.layout`.
"""

import numpy as np

from bundle.compiled import compiled
from constraints.layout import BITS, NONE


@compiled
def start(data, at, effort):  # type: ignore[no-untyped-def]
    """Nothing is placed yet. `data` is packed, with room for the rest."""
    data[at.packed_end : at.rows] = 0
    data[at.effort] = effort
    data[at.best] = data[at.remembered] = data[at.last_pin] = data[at.looked_at] = NONE
    for i in range(at.length * at.words):
        data[at.rows + i] = data[at.pin_masks + i]
    for k in range(at.kinds):
        data[at.left + k] = data[at.size + k]
        data[at.remaining] += data[at.size + k]
    for i in range(at.rules * at.rules):
        data[at.both + i] = data[at.shared + i]
    for r in range(at.rules):
        data[at.used + r] = 0
    for position in range(at.length):
        data[at.standing + position] = NONE
        if data[at.pins + position] != NONE:
            data[at.last_pin] = position
            for r in range(at.rules):
                if is_in(data, at, at.rows, position, r) and counts_there(data, at, position, r):
                    data[at.used + r] += 1


@compiled
def is_in(data, at, rows, position, r):  # type: ignore[no-untyped-def]
    """1 where what stands at a position is a member of a rule, 0 elsewhere."""
    return (data[rows + position * at.words + r // BITS] >> (r % BITS)) & 1


@compiled
def counts_there(data, at, position, r):  # type: ignore[no-untyped-def]
    """Whether a member at a position is counted by `used`."""
    return r < at.caps or position < data[at.span + r]


@compiled
def mixed(value):  # type: ignore[no-untyped-def]
    """A scrambled integer (the finalizer of MurmurHash3)."""
    h = np.uint64(value)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    h ^= h >> np.uint64(33)
    return np.int64(h)


@compiled
def put(data, at, position, k, sign):  # type: ignore[no-untyped-def]
    """Place one of kind `k`, or take it away again (`sign` -1)."""
    for w in range(at.words):
        data[at.rows + position * at.words + w] = data[at.masks + k * at.words + w] if sign > 0 else 0
    data[at.standing + position] = k
    data[at.left + k] -= sign
    data[at.remaining] -= sign
    data[at.hash] += sign * mixed(k + 1)
    for i in range(data[at.first + k], data[at.first + k + 1]):
        r = data[at.member + i]
        if counts_there(data, at, position, r):
            data[at.used + r] += sign
        if r < at.caps:
            data[at.both + r * at.rules + r] -= sign
            continue
        for j in range(data[at.first + k], data[at.first + k + 1]):
            data[at.both + r * at.rules + data[at.member + j]] -= sign


@compiled
def most_beside(data, at, rows, position, r, last):  # type: ignore[no-untyped-def]
    """Most members of a rule in a window around a position, itself not counted. Nothing is after `last`."""
    span = data[at.span + r]
    begin = max(0, position - span + 1)
    members = 0
    for p in range(begin, position):
        members += is_in(data, at, rows, p, r)
    if last <= position:
        return members
    for p in range(position + 1, min(begin + span, at.length)):
        members += is_in(data, at, rows, p, r)
    most = members
    for s in range(begin + 1, position + 1):
        if s + span > at.length:
            break
        members -= is_in(data, at, rows, s - 1, r)
        if s + span - 1 > position:
            members += is_in(data, at, rows, s + span - 1, r)
        most = max(most, members)
    return most


@compiled
def bar_neighbours(data, at, rows, position, last, blocked):  # type: ignore[no-untyped-def]
    """Write to `blocked` which caps of one member in a window have it beside the position. Nothing is after
    `last`."""
    for i in range(at.windows):
        mask = at.apart + i * (1 + at.words)
        span = data[mask]
        for p in range(max(0, position - span + 1), min(max(position, last) + 1, position + span, at.length)):
            if p != position:
                for w in range(at.words):
                    data[blocked + w] |= data[rows + p * at.words + w] & data[mask + 1 + w]


@compiled
def look_around(data, at, position, blocked, urgent):  # type: ignore[no-untyped-def]
    """Write which caps leave no room at a position, and which floors need it, to `data` at `blocked` and
    `urgent`. False where a floor cannot hold."""
    for w in range(at.words):
        data[blocked + w] = data[urgent + w] = 0
    last = data[at.last_pin]
    bar_neighbours(data, at, at.rows, position, last, blocked)
    for r in range(at.tallied):
        if data[at.span + r] >= at.length:
            full = data[at.used + r] >= data[at.counts + r]
        else:
            full = most_beside(data, at, at.rows, position, r, last) >= data[at.counts + r]
        if full:
            data[blocked + r // BITS] |= 1 << (r % BITS)
    for r in range(at.caps, at.rules):
        if position < data[at.span + r]:
            need = data[at.counts + r] - data[at.used + r]
            slots = data[at.free + data[at.span + r]] - data[at.free + position]
            if need > slots:
                return False
            if need == slots and need > 0:
                data[urgent + r // BITS] |= 1 << (r % BITS)
    return True


@compiled
def fits(data, at, k, blocked, urgent):  # type: ignore[no-untyped-def]
    """Whether a kind is in no rule of `blocked` and in all of `urgent`."""
    mask = at.masks + k * at.words
    for w in range(at.words):
        if data[mask + w] & data[blocked + w] or data[urgent + w] & ~data[mask + w]:
            return False
    return True


@compiled
def pin_fits(data, at, position):  # type: ignore[no-untyped-def]
    """Windows alone: a pin counts towards whole slates and tops from the start."""
    for r in range(at.caps):
        if data[at.span + r] < at.length and is_in(data, at, at.rows, position, r):
            most = most_beside(data, at, at.rows, position, r, data[at.last_pin])
            if most >= data[at.counts + r]:
                return False
    return True
