# ruff: noqa: SIM110, generators are not compiled
"""What may stand where, in machine code: one definition for training, the graphs' host and the kernel.

Candidates of the same memberships are one *kind*, for they are interchangeable. A *witness* is a slate that
satisfies everything and begins as what was placed; whatever fits into one may stand. Where no witness can be
adapted, a depth-first search decides, which remembers the states that lead nowhere and stops at a number of
states; where no rule is about windows and groups are nested or disjoint, counts decide (`counts_hold`).
docs/decisions/constraints.md says why that is right.

Long, because what the compiler is to inline stands together. Legend: N candidates, T kinds, R rules (caps
before floors), W words of bits, L positions, G groups of a tree, P witnesses.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.compiled import CLOCK_MONOTONIC, clock_gettime, compiled

Ints = NDArray[np.int64]

BITS = 63
"""Rules of a word: all but the sign."""

WITNESSES = 8
"""Slates kept at a position to fit other kinds into."""

A_LOOK = 64
"""States between two looks at the clock."""

NONE, AGAIN, FIRST_SWAP = -1, -2, -3
"""AGAIN: of no witness that was kept, to be searched for again."""

SHARES = 8
"""One search may take the slate's effort divided by this."""

HEADER = 8
KINDS, RULES, CAPS, LENGTH, GROUPS, CANDIDATES, MEMBERSHIPS, COUNTED = range(HEADER)
"""What the numbers are with which packed rules begin. COUNTED: whether counts decide."""

TALLY = 8
PLACED, LEFT, EFFORT, HASH, UNDECIDED, BEST, USED_MEMORY, LAST_PIN = range(TALLY)

FOUND, DEAD, UNKNOWN, LATE = 1, 0, -1, -2


class Rules(NamedTuple):
    """Parts of a packed row, without copying."""

    header: Ints
    kind: Ints  # [N], NONE where pinned
    masks: Ints  # [T, W], which rules a kind is a member of
    size: Ints  # [T], candidates
    order: Ints  # [T], in which a search tries them
    first: Ints  # [T + 1], where a kind's rules begin in `member`
    member: Ints
    counts: Ints  # [R]
    span: Ints  # [R], a cap's window, L for the whole slate; a floor's top
    both: Ints  # [R, R], candidates that are not pinned in both groups
    pins: Ints  # [L], the candidate or NONE
    pin_masks: Ints  # [L, W]
    free: Ints  # [L + 1], positions before that are not pinned
    witness: Ints  # [L], kinds, NONE where pinned
    group_of: Ints  # [R], the group of a rule
    parent: Ints  # [G], after its children; NONE for none
    group_of_kind: Ints  # [T], the smallest it is in, G for none


class Track(NamedTuple):
    """What was placed, and what is tried."""

    tally: Ints
    rows: Ints  # [L, W], the rules of what stands at a position, pins ahead included
    kinds: Ints  # [L]
    left: Ints  # [T]
    used: Ints  # [R], members in the slate or in a floor's top, pins ahead included
    both: Ints  # [R, R], of what is left
    blocked: Ints  # [L + 1, W], caps that leave no room at a position
    urgent: Ints  # [L + 1, W], floors that need every position until their top
    cursor: Ints  # [L + 1]
    memory: Ints  # of dead states
    pool_kinds: Ints  # [P, L]
    pool_rows: Ints  # [P, L, W]
    pool_used: Ints  # [P, R]
    ahead: Ints  # [P, T], of each kind after this position
    bars: Ints  # [P, W], caps that leave no room in a witness
    needs: Ints  # [P, W], floors that need a member here
    via: Ints  # [T], the witness it fits into, AGAIN, or FIRST_SWAP - s: exchanged with s
    best: Ints  # [L], kinds of the longest so far
    fill: Ints  # [G + 1]
    demand: Ints  # [G + 1]
    own: Ints  # [G + 1]


@compiled
def _monotonic(reading):  # type: ignore[no-untyped-def]
    clock_gettime(CLOCK_MONOTONIC, reading.ctypes)
    return np.float64(reading[0]) + np.float64(reading[1]) * 1e-9


@compiled
def unpack(packed):  # type: ignore[no-untyped-def]
    """`Rules` of one packed row; what follows them is padding."""
    header = packed[:HEADER]
    kinds, rules, length, groups = header[KINDS], header[RULES], header[LENGTH], header[GROUPS]
    words = (rules + BITS - 1) // BITS
    a = HEADER
    b = a + header[CANDIDATES]
    kind = packed[a:b]
    a, b = b, b + kinds * words
    masks = packed[a:b].reshape(kinds, words)
    a, b = b, b + kinds
    size = packed[a:b]
    a, b = b, b + kinds
    order = packed[a:b]
    a, b = b, b + kinds + 1
    first = packed[a:b]
    a, b = b, b + header[MEMBERSHIPS]
    member = packed[a:b]
    a, b = b, b + rules
    count = packed[a:b]
    a, b = b, b + rules
    span = packed[a:b]
    a, b = b, b + rules * rules
    both = packed[a:b].reshape(rules, rules)
    a, b = b, b + length
    pins = packed[a:b]
    a, b = b, b + length * words
    pin_masks = packed[a:b].reshape(length, words)
    a, b = b, b + length + 1
    free = packed[a:b]
    a, b = b, b + length
    witness = packed[a:b]
    a, b = b, b + rules
    group_of = packed[a:b]
    a, b = b, b + groups
    parent = packed[a:b]
    a, b = b, b + kinds
    return Rules(
        header,
        kind,
        masks,
        size,
        order,
        first,
        member,
        count,
        span,
        both,
        pins,
        pin_masks,
        free,
        witness,
        group_of,
        parent,
        packed[a:b],
    )


@compiled
def track(rules, effort):  # type: ignore[no-untyped-def]
    """A `Track` before the first position; `effort` states may be searched on the way."""
    kinds, words = rules.masks.shape
    number, length, groups = rules.counts.shape[0], rules.pins.shape[0], rules.parent.shape[0]
    counted = rules.header[COUNTED] == 1
    pool = 1 if counted else WITNESSES
    memory = 1
    if not counted:
        while memory < 2 * effort:
            memory *= 2
    now = Track(
        np.zeros(TALLY, np.int64),
        rules.pin_masks.copy(),
        np.full(length, NONE, np.int64),
        rules.size.copy(),
        np.zeros(number, np.int64),
        rules.both.copy(),
        np.empty((length + 1, words), np.int64),
        np.empty((length + 1, words), np.int64),
        np.empty(length + 1, np.int64),
        np.zeros(memory, np.int64),
        np.empty((pool, length), np.int64),
        np.empty((pool, length, words), np.int64),
        np.empty((pool, number), np.int64),
        np.empty((pool, kinds), np.int64),
        np.empty((pool, words), np.int64),
        np.empty((pool, words), np.int64),
        np.empty(kinds, np.int64),
        np.empty(length, np.int64),
        np.empty(groups + 1, np.int64),
        np.empty(groups + 1, np.int64),
        np.empty(groups + 1, np.int64),
    )
    now.tally[LEFT] = rules.size.sum()
    now.tally[EFFORT] = effort
    now.tally[BEST] = NONE
    now.tally[LAST_PIN] = NONE
    caps = rules.header[CAPS]
    for position in range(length):
        if rules.pins[position] != NONE:
            now.tally[LAST_PIN] = position
            for r in range(number):
                if _is_in(now.rows, position, r) and (r < caps or position < rules.span[r]):
                    now.used[r] += 1
    return now


@compiled
def begin(packed, effort):  # type: ignore[no-untyped-def]
    """The rules of a packed row, and their `Track` with the first witness."""
    rules = unpack(packed)
    now = track(rules, effort)
    if rules.header[COUNTED] == 0:
        now.pool_kinds[0] = rules.witness
        _write_witness(rules, now, 0)
    return rules, now


@compiled
def _is_in(rows, position, r):  # type: ignore[no-untyped-def]
    return (rows[position, r // BITS] >> (r % BITS)) & 1


@compiled
def _write_witness(rules, now, p):  # type: ignore[no-untyped-def]
    """`pool_rows` and `pool_used` from `pool_kinds`."""
    caps = rules.header[CAPS]
    now.pool_used[p] = 0
    for position in range(rules.pins.shape[0]):
        k = now.pool_kinds[p, position]
        now.pool_rows[p, position] = rules.pin_masks[position] if k == NONE else rules.masks[k]
        for r in range(rules.counts.shape[0]):
            if _is_in(now.pool_rows[p], position, r) and (r < caps or position < rules.span[r]):
                now.pool_used[p, r] += 1


@compiled
def _mixed(value):  # type: ignore[no-untyped-def]
    """A scrambled integer (the finalizer of MurmurHash3)."""
    h = np.uint64(value)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    h ^= h >> np.uint64(33)
    return np.int64(h)


@compiled
def _put(rules, now, position, k, sign):  # type: ignore[no-untyped-def]
    """Place one of kind `k`, or take it away again (`sign` -1)."""
    caps = rules.header[CAPS]
    if sign > 0:
        now.rows[position] = rules.masks[k]
        now.kinds[position] = k
    else:
        now.rows[position] = 0
    now.left[k] -= sign
    now.tally[LEFT] -= sign
    now.tally[HASH] += sign * _mixed(k + 1)
    for i in range(rules.first[k], rules.first[k + 1]):
        r = rules.member[i]
        if r < caps or position < rules.span[r]:
            now.used[r] += sign
        for j in range(rules.first[k], rules.first[k + 1]):
            now.both[r, rules.member[j]] -= sign


@compiled
def _most_beside(rows, position, r, span, last):  # type: ignore[no-untyped-def]
    """Most members in a window around a position, itself not counted; nothing stands after `last`."""
    length = rows.shape[0]
    start = max(0, position - span + 1)
    members = 0
    for p in range(start, position):
        members += _is_in(rows, p, r)
    if last <= position:
        return members
    for p in range(position + 1, min(start + span, length)):
        members += _is_in(rows, p, r)
    most = members
    for s in range(start + 1, position + 1):
        if s + span > length:
            break
        members -= _is_in(rows, s - 1, r)
        if s + span - 1 > position:
            members += _is_in(rows, s + span - 1, r)
        most = max(most, members)
    return most


@compiled
def _look_around(rules, now, position, blocked, urgent):  # type: ignore[no-untyped-def]
    """Which caps leave no room at a position, and which floors need it. False where a floor cannot hold."""
    caps, length, number = rules.header[CAPS], rules.pins.shape[0], rules.counts.shape[0]
    blocked[:] = 0
    urgent[:] = 0
    last = now.tally[LAST_PIN]
    for r in range(caps):
        if rules.span[r] >= length:
            full = now.used[r] >= rules.counts[r]
        else:
            full = _most_beside(now.rows, position, r, rules.span[r], last) >= rules.counts[r]
        if full:
            blocked[r // BITS] |= 1 << (r % BITS)
    for r in range(caps, number):
        if position < rules.span[r]:
            need = rules.counts[r] - now.used[r]
            slots = rules.free[rules.span[r]] - rules.free[position]
            if need > slots:
                return False
            if need == slots and need > 0:
                urgent[r // BITS] |= 1 << (r % BITS)
    return True


@compiled
def _fits(mask, blocked, urgent):  # type: ignore[no-untyped-def]
    for w in range(mask.shape[0]):
        if mask[w] & blocked[w] or urgent[w] & ~mask[w]:
            return False
    return True


@compiled
def _pin_fits(rules, now, position):  # type: ignore[no-untyped-def]
    """Windows alone: a pin counts towards whole slates and tops from the start."""
    length = rules.pins.shape[0]
    for r in range(rules.header[CAPS]):
        if rules.span[r] < length and _is_in(now.rows, position, r):
            most = _most_beside(now.rows, position, r, rules.span[r], now.tally[LAST_PIN])
            if most >= rules.counts[r]:
                return False
    return True


@compiled
def _room(rules, now, r, slots):  # type: ignore[no-untyped-def]
    """At most so many members of a cap in the next `slots` free positions."""
    if rules.span[r] >= rules.pins.shape[0]:
        return rules.counts[r] - now.used[r]
    # Free positions that follow each other lie in no more windows than as many without pins between them,
    # if those are counted too.
    whole, rest = slots // rules.span[r], slots % rules.span[r]
    return whole * rules.counts[r] + min(rest, rules.counts[r])


@compiled
def _promising(rules, now, position, goal):  # type: ignore[no-untyped-def]
    """Counts that have to hold for a slate of `goal` positions; False is certain, True is not."""
    caps, number, length = rules.header[CAPS], rules.counts.shape[0], rules.pins.shape[0]
    left = now.tally[LEFT]
    ahead = rules.free[goal] - rules.free[position]
    if ahead > left:
        return False
    for f in range(caps, number):
        need = rules.counts[f] - now.used[f]
        if need <= 0:
            continue
        slots = rules.free[rules.span[f]] - rules.free[min(position, rules.span[f])]
        if need > min(slots, now.both[f, f]):
            return False
        positions = rules.span[f] - position
        for r in range(caps):
            room = _room(rules, now, r, positions)
            if need > now.both[f, f] - now.both[f, r] + min(room, now.both[f, r]):
                return False
        for g in range(caps, f):
            other = rules.counts[g] - now.used[g]
            if other > 0:
                top = max(rules.span[f], rules.span[g])
                shared = min(now.both[f, g], min(need, other))
                if need + other - shared > rules.free[top] - rules.free[position]:
                    return False
    loose = left
    for r in range(caps):
        room = _room(rules, now, r, goal - position)
        if ahead - room > left - now.both[r, r]:
            return False
        if room < 0 and rules.span[r] >= length:
            return False
    return ahead <= loose


@compiled
def counts_hold(rules, now, position, goal):  # type: ignore[no-untyped-def]
    """Whether a slate of `goal` positions can be completed, where groups are nested or disjoint and caps are
    on the whole slate: each group's members that may come, `fill`, and that have to by a top, `demand`."""
    caps, number = rules.header[CAPS], rules.counts.shape[0]
    groups = rules.parent.shape[0]
    fill, demand, own = now.fill, now.demand, now.own
    fill[:] = 0
    own[:] = np.iinfo(np.int64).max
    for k in range(rules.size.shape[0]):
        fill[rules.group_of_kind[k]] += now.left[k]
    for r in range(caps):
        room = rules.counts[r] - now.used[r]
        if room < 0:
            return False
        own[rules.group_of[r]] = min(own[rules.group_of[r]], room)
    for g in range(groups):
        fill[g] = min(fill[g], own[g])
        above = rules.parent[g]
        fill[groups if above == NONE else above] += fill[g]
    if fill[groups] < rules.free[goal] - rules.free[position]:
        return False
    for f in range(caps, number):  # the tops, each as often as it is asked for
        top = min(rules.span[f], goal)
        own[:] = 0
        for other in range(caps, number):
            if min(rules.span[other], goal) <= top:
                g = rules.group_of[other]
                own[g] = max(own[g], rules.counts[other] - now.used[other])
        demand[:] = 0
        for g in range(groups):
            demand[g] = max(demand[g], own[g])
            if demand[g] > fill[g]:
                return False
            above = rules.parent[g]
            demand[groups if above == NONE else above] += demand[g]
        if demand[groups] > rules.free[top] - rules.free[min(position, top)]:
            return False
    return True


@compiled
def _state(rules, now, position, history):  # type: ignore[no-untyped-def]
    """A number for what is left and what the windows see; never 0."""
    h = now.tally[HASH] + _mixed(position + 1) * 31
    for p in range(max(0, position - history), position):
        for w in range(now.rows.shape[1]):
            h = _mixed(h + now.rows[p, w] * 3 + w + 1)
    return h if h != 0 else 1


@compiled
def _remembered(memory, state):  # type: ignore[no-untyped-def]
    at = state & (memory.shape[0] - 1)
    while memory[at] != 0:
        if memory[at] == state:
            return True
        at = (at + 1) & (memory.shape[0] - 1)
    return False


@compiled
def _remember(now, state):  # type: ignore[no-untyped-def]
    memory = now.memory
    if 2 * now.tally[USED_MEMORY] >= memory.shape[0]:
        return
    at = state & (memory.shape[0] - 1)
    while memory[at] != 0:
        at = (at + 1) & (memory.shape[0] - 1)
    memory[at] = state
    now.tally[USED_MEMORY] += 1


@compiled
def _is_whole(rules, now, position):  # type: ignore[no-untyped-def]
    """Whether what stands before a position is a slate by itself."""
    if position <= now.tally[LAST_PIN]:
        return False
    for f in range(rules.header[CAPS], rules.counts.shape[0]):
        if now.used[f] < rules.counts[f]:
            return False
    return True


@compiled
def search(rules, now, start, least, guided, displaced, effort, deadline):  # type: ignore[no-untyped-def]
    """Complete what is placed before `start`, kinds in the order of the first witness where `guided`, with
    `displaced` next, then in `Rules.order`.

    Where `least` is less than L, slates that are shorter are kept in `best`, none shorter than that.

    Returns:
        FOUND with the slate placed; DEAD where there is none, UNKNOWN after `effort` states, LATE at
        `deadline` (seconds of `time.monotonic()`): what was placed from `start` on is taken away then.
    """
    length, kinds, tally = rules.pins.shape[0], rules.size.shape[0], now.tally
    counted = rules.header[COUNTED] == 1
    history = 0
    for r in range(rules.header[CAPS]):
        if rules.span[r] < length:
            history = max(history, rules.span[r] - 1)
    reading = np.empty(2, np.int64)
    position, entering, outcome = start, True, DEAD
    while True:
        if entering:
            entering = False
            if position == length and _is_whole(rules, now, position):
                return FOUND
            if least < length and position > tally[BEST] and _is_whole(rules, now, position):
                tally[BEST] = position
                now.best[:position] = now.kinds[:position]
            if outcome == DEAD and effort == 0:
                outcome = UNKNOWN
            effort -= 1
            tally[EFFORT] -= 1
            if effort % A_LOOK == 0 and deadline < np.inf and _monotonic(reading) >= deadline:
                outcome = LATE
            goal = max(max(least, tally[BEST] + 1), max(position, tally[LAST_PIN]) + 1)
            now.cursor[position] = kinds
            if outcome == DEAD and position < length and goal <= length:
                hopeful = (
                    counts_hold(rules, now, position, goal)
                    if counted
                    else _promising(rules, now, position, goal)
                )
                if (
                    hopeful
                    and _look_around(rules, now, position, now.blocked[position], now.urgent[position])
                    and (counted or not _remembered(now.memory, _state(rules, now, position, history)))
                ):
                    now.cursor[position] = -2
        chosen = -2
        if outcome == DEAD and position < length:
            if rules.pins[position] != NONE:
                if now.cursor[position] == -2 and _pin_fits(rules, now, position):
                    chosen = NONE
                now.cursor[position] = kinds
            while chosen == -2 and now.cursor[position] < kinds:
                at = now.cursor[position]
                now.cursor[position] += 1
                if at == -2:
                    k = now.pool_kinds[0, position] if guided else -2
                elif at == -1:
                    k = displaced
                else:
                    k = rules.order[at]
                if (
                    k >= 0
                    and now.left[k] > 0
                    and _fits(rules.masks[k], now.blocked[position], now.urgent[position])
                ):
                    chosen = k
        if chosen >= 0:
            _put(rules, now, position, chosen, 1)
        if chosen != -2:
            now.kinds[position] = chosen
            position += 1
            entering = True
            continue
        if outcome == DEAD and position < length and not counted:
            state = _state(rules, now, position, history)
            if not _remembered(now.memory, state):
                _remember(now, state)
        if position == start:
            return outcome
        position -= 1
        if now.kinds[position] != NONE:
            _put(rules, now, position, now.kinds[position], -1)


@compiled
def _read_witness(rules, now, p, position):  # type: ignore[no-untyped-def]
    """What the position asks of a kind that would stand there instead."""
    caps, length, number = rules.header[CAPS], rules.pins.shape[0], rules.counts.shape[0]
    rows = now.pool_rows[p]
    now.ahead[p] = 0
    for s in range(position + 1, length):
        if now.pool_kinds[p, s] != NONE:
            now.ahead[p, now.pool_kinds[p, s]] += 1
    now.bars[p] = 0
    now.needs[p] = 0
    for r in range(number):
        here = _is_in(rows, position, r)
        if r >= caps:
            if position < rules.span[r] and now.pool_used[p, r] - here < rules.counts[r]:
                now.needs[p, r // BITS] |= 1 << (r % BITS)
        else:
            if rules.span[r] >= length:
                full = now.pool_used[p, r] - here >= rules.counts[r]
            else:
                full = _most_beside(rows, position, r, rules.span[r], length) >= rules.counts[r]
            if full:
                now.bars[p, r // BITS] |= 1 << (r % BITS)


@compiled
def _swap(now, position, other):  # type: ignore[no-untyped-def]
    kinds, rows = now.pool_kinds[0], now.pool_rows[0]
    kinds[position], kinds[other] = kinds[other], kinds[position]
    for w in range(rows.shape[1]):
        rows[position, w], rows[other, w] = rows[other, w], rows[position, w]


@compiled
def _can_swap(rules, now, position, other):  # type: ignore[no-untyped-def]
    """Whether the first witness still holds with two positions exchanged, the first before the second."""
    caps, length = rules.header[CAPS], rules.pins.shape[0]
    earlier, later = now.pool_kinds[0, position], now.pool_kinds[0, other]
    rows = now.pool_rows[0]
    for i in range(rules.first[earlier], rules.first[earlier + 1]):
        r = rules.member[i]
        leaves = r >= caps and position < rules.span[r] <= other and not _is_in(rows, other, r)
        if leaves and now.pool_used[0, r] <= rules.counts[r]:
            return False
    _swap(now, position, other)
    holds = True
    for k, here in ((later, position), (earlier, other)):
        for i in range(rules.first[k], rules.first[k + 1]):
            r = rules.member[i]
            if r < caps and rules.span[r] < length:
                holds &= _most_beside(rows, here, r, rules.span[r], length) < rules.counts[r]
    _swap(now, position, other)
    return holds


@compiled
def allow(rules, now, ok, deadline):  # type: ignore[no-untyped-def]
    """Write which kinds may stand at the next position, `[T] bool`; none where it is pinned.

    Returns:
        Whether there was time: False after `deadline`, in seconds of `time.monotonic()`.
    """
    position, kinds, length = now.tally[PLACED], rules.size.shape[0], rules.pins.shape[0]
    ok[:] = False
    if position >= length or rules.pins[position] != NONE:
        return True
    blocked, urgent = now.blocked[length], now.urgent[length]
    _look_around(rules, now, position, blocked, urgent)
    if rules.header[COUNTED] == 1:
        for k in range(kinds):
            if now.left[k] > 0 and _fits(rules.masks[k], blocked, urgent):
                _put(rules, now, position, k, 1)
                ok[k] = counts_hold(rules, now, position + 1, length)
                _put(rules, now, position, k, -1)
        return True
    _read_witness(rules, now, 0, position)
    witnesses, share = 1, max(1, now.memory.shape[0] // (2 * SHARES))
    own = now.pool_kinds[0, position]
    for k in range(kinds):
        now.via[k] = NONE
        if now.left[k] == 0 or not _fits(rules.masks[k], blocked, urgent):
            continue
        if k == own:
            now.via[k] = 0
            continue
        for p in range(witnesses):
            if now.left[k] > now.ahead[p, k] and _fits(rules.masks[k], now.bars[p], now.needs[p]):
                now.via[k] = p
                break
        if now.via[k] == NONE and now.ahead[0, k] > 0:
            for s in range(position + 1, length):
                if now.pool_kinds[0, s] == k and _can_swap(rules, now, position, s):
                    now.via[k] = FIRST_SWAP - s
                    break
        if now.via[k] != NONE:
            continue
        effort = min(now.tally[EFFORT], share)
        if effort <= 0:
            now.tally[UNDECIDED] += 1
            continue
        _put(rules, now, position, k, 1)
        outcome = search(rules, now, position + 1, length, True, own, effort, deadline)
        if outcome == FOUND:
            now.via[k] = AGAIN
            if witnesses < now.pool_kinds.shape[0]:
                now.via[k] = witnesses
                _keep(now, witnesses)
            _take_away(rules, now, position + 1)
            if now.via[k] == witnesses:
                _read_witness(rules, now, witnesses, position)
                witnesses += 1
        elif outcome == UNKNOWN:
            now.tally[UNDECIDED] += 1
        _put(rules, now, position, k, -1)
        if outcome == LATE:
            return False
    for k in range(kinds):
        ok[k] = now.via[k] != NONE
    return True


@compiled
def _keep(now, p):  # type: ignore[no-untyped-def]
    """The slate that was found as a witness."""
    now.pool_kinds[p] = now.kinds
    now.pool_rows[p] = now.rows
    now.pool_used[p] = now.used


@compiled
def _take_away(rules, now, start):  # type: ignore[no-untyped-def]
    """What a search placed from `start` on."""
    for s in range(rules.pins.shape[0] - 1, start - 1, -1):
        if now.kinds[s] != NONE:
            _put(rules, now, s, now.kinds[s], -1)


@compiled
def _replace(rules, now, position, k):  # type: ignore[no-untyped-def]
    """Put one of kind `k` at a position of the first witness."""
    caps = rules.header[CAPS]
    old = now.pool_kinds[0, position]
    for other, sign in ((old, -1), (k, 1)):
        for i in range(rules.first[other], rules.first[other + 1]):
            r = rules.member[i]
            if r < caps or position < rules.span[r]:
                now.pool_used[0, r] += sign
    now.pool_kinds[0, position] = k
    now.pool_rows[0, position] = rules.masks[k]


@compiled
def place(rules, now, k):  # type: ignore[no-untyped-def]
    """Place one of a kind that `allow` allowed; NONE is the pinned one."""
    position = now.tally[PLACED]
    now.tally[PLACED] += 1
    if k == NONE:
        return
    _put(rules, now, position, k, 1)
    if rules.header[COUNTED] == 1:
        return
    via = now.via[k]
    if via == AGAIN:  # as it was found before, in no more states
        own, length = now.pool_kinds[0, position], rules.pins.shape[0]
        search(rules, now, position + 1, length, True, own, np.iinfo(np.int64).max, np.inf)
        _keep(now, 0)
        _take_away(rules, now, position + 1)
        return
    if via <= FIRST_SWAP:
        other = FIRST_SWAP - via
        _replace(rules, now, other, now.pool_kinds[0, position])
    elif via > 0:
        now.pool_kinds[0] = now.pool_kinds[via]
        now.pool_rows[0] = now.pool_rows[via]
        now.pool_used[0] = now.pool_used[via]
    _replace(rules, now, position, k)


@compiled
def find_longest(packed, effort, slate):  # type: ignore[no-untyped-def]
    """Write the longest slate, `[L]` items, of which one is found within `effort` states.

    Returns:
        Its length, -1 where there is none; whether there is certainly no longer one; whether it was written:
        where counts decide, what is shorter than L is to be packed for its length first.
    """
    rules = unpack(packed)
    length = rules.pins.shape[0]
    now = track(rules, effort)
    last_pin = now.tally[LAST_PIN]
    for r in range(rules.header[CAPS]):
        if rules.span[r] >= length and now.used[r] > rules.counts[r]:
            return -1, True, False
    for position in range(length):
        if rules.pins[position] != NONE and not _pin_fits(rules, now, position):
            return -1, True, False
    if rules.header[COUNTED] == 1:
        goal = length
        while goal > last_pin and not counts_hold(rules, now, 0, goal):
            goal -= 1
        if goal <= last_pin:
            return -1, True, False
        if goal == length:
            search(rules, now, 0, length, False, NONE, np.iinfo(np.int64).max, np.inf)
            _write_items(rules, now.kinds, slate)
        return goal, True, goal == length
    if search(rules, now, 0, length, False, NONE, effort // 2, np.inf) == FOUND:
        _write_items(rules, now.kinds, slate)
        return length, True, True
    now = track(rules, effort)
    outcome = search(rules, now, 0, 0, False, NONE, effort // 2, np.inf)
    best = now.tally[BEST]
    if outcome == FOUND:
        best = length
        now.best[:] = now.kinds
    if best >= 0:
        _write_items(rules, now.best[:best], slate)
    return best, outcome != UNKNOWN, True


@compiled
def _write_items(rules, kinds, slate):  # type: ignore[no-untyped-def]
    """The first candidates of each kind."""
    taken = np.zeros(rules.size.shape[0], np.int64)
    for position in range(kinds.shape[0]):
        k = kinds[position]
        if k == NONE:
            slate[position] = rules.pins[position]
            continue
        for item in range(taken[k], rules.kind.shape[0]):
            if rules.kind[item] == k:
                slate[position] = item
                taken[k] = item + 1
                break


@compiled
def set_witness(packed, slate):  # type: ignore[no-untyped-def]
    """Pack the slate to begin with, `[L]` items."""
    rules = unpack(packed)
    for position in range(slate.shape[0]):
        rules.witness[position] = rules.kind[slate[position]]


@compiled
def write_in_order(packed, order, effort, slate):  # type: ignore[no-untyped-def]
    """Write a slate, `[L]` items: at each position the first in `order` that may stand there."""
    rules, now = begin(packed, effort)
    ok = np.empty(rules.size.shape[0], np.bool_)
    taken = np.zeros(rules.kind.shape[0], np.bool_)
    for position in range(slate.shape[0]):
        allow(rules, now, ok, np.inf)
        item = rules.pins[position]
        if item == NONE:
            for candidate in order:
                if not taken[candidate] and rules.kind[candidate] != NONE and ok[rules.kind[candidate]]:
                    item = candidate
                    break
        place(rules, now, rules.kind[item])
        taken[item] = True
        slate[position] = item
