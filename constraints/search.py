# ruff: noqa: SIM110, generators are not compiled
"""Whether what was placed can be completed, in machine code: by counts where they decide, else by a search.

The search is depth-first over kinds, remembers the states that lead nowhere and stops at a number of states.

docs/decisions/constraints.md says why that is right. `data` and `at` are a row and its `Layout`.
Legend: as in `constraints.layout`.
"""

import numpy as np

from bundle.compiled import compiled, monotonic
from constraints.layout import BITS, NONE
from constraints.standing import counts_there, fits, is_in, look_around, mixed, pin_fits, put

A_LOOK = 64
"""States between two looks at the clock."""

FOUND, DEAD, UNKNOWN, LATE = 1, 0, -1, -2

GUIDE, DISPLACED = -2, -1
"""What is tried before the kinds in their order: the witness's, and the one it has before the search."""

NOBODY = -2
"""Of no kind, nor pinned."""


@compiled
def _room(data, at, r, positions):  # type: ignore[no-untyped-def]
    """At most so many further members of a cap in the next positions."""
    if data[at.span + r] >= at.length:
        return data[at.counts + r] - data[at.used + r]
    windows, rest = positions // data[at.span + r], positions % data[at.span + r]
    return windows * data[at.counts + r] + min(rest, data[at.counts + r])


@compiled
def _promising(data, at, position, goal):  # type: ignore[no-untyped-def]
    """Counts that have to hold for a slate of `goal` positions: False is certain, True is not."""
    left = data[at.remaining]
    slots = data[at.free + goal] - data[at.free + position]
    if slots > left:
        return False
    for f in range(at.caps, at.rules):
        need, top = data[at.counts + f] - data[at.used + f], data[at.span + f]
        if need <= 0:
            continue
        members = data[at.both + f * at.rules + f]
        if need > members or need > data[at.free + top] - data[at.free + min(position, top)]:
            return False
        for r in range(at.caps):
            in_both = data[at.both + f * at.rules + r]
            if need > members - in_both + min(_room(data, at, r, top - position), in_both):
                return False
        for g in range(at.caps, f):
            other = data[at.counts + g] - data[at.used + g]
            if other > 0:
                last = max(top, data[at.span + g])
                for_both = min(data[at.both + f * at.rules + g], min(need, other))
                if need + other - for_both > data[at.free + last] - data[at.free + position]:
                    return False
    for r in range(at.rules + 1):
        data[at.at_home + r] = 0
    for k in range(at.kinds):
        data[at.at_home + data[at.home + k]] += data[at.left + k]
    most = data[at.at_home + at.rules]
    for r in range(at.caps):
        room = _room(data, at, r, goal - position)
        if slots - room > left - data[at.both + r * at.rules + r]:
            return False
        most += min(room, data[at.at_home + r])
    return slots <= most


@compiled
def counts_hold(data, at, position, goal):  # type: ignore[no-untyped-def]
    """Whether a slate of `goal` positions can be completed, where `Layout.counted`: of each group, the
    members that may come, `fill`, and those that have to by a top, `demand`."""
    fill, demand, own, groups = at.fill, at.demand, at.own, at.groups
    for g in range(groups + 1):
        data[fill + g] = 0
        data[own + g] = data[at.remaining]
    for k in range(at.kinds):
        data[fill + data[at.group_of_kind + k]] += data[at.left + k]
    for r in range(at.caps):
        room = data[at.counts + r] - data[at.used + r]
        if room < 0:
            return False
        g = data[at.group_of + r]
        data[own + g] = min(data[own + g], room)
    for g in range(groups):
        data[fill + g] = min(data[fill + g], data[own + g])
        data[fill + data[at.parent + g]] += data[fill + g]
    if data[fill + groups] < data[at.free + goal] - data[at.free + position]:
        return False
    for f in range(at.caps, at.rules):  # each top once, for they ascend
        top = min(data[at.span + f], goal)
        if f + 1 < at.rules and min(data[at.span + f + 1], goal) == top:
            continue
        for g in range(groups + 1):
            data[own + g] = data[demand + g] = 0
        for other in range(at.caps, at.rules):
            if min(data[at.span + other], goal) <= top:
                g = data[at.group_of + other]
                data[own + g] = max(data[own + g], data[at.counts + other] - data[at.used + other])
        for g in range(groups):
            data[demand + g] = max(data[demand + g], data[own + g])
            if data[demand + g] > data[fill + g]:
                return False
            data[demand + data[at.parent + g]] += data[demand + g]
        if data[demand + groups] > data[at.free + top] - data[at.free + min(position, top)]:
            return False
    return True


@compiled
def _hash(data, at, position, seen):  # type: ignore[no-untyped-def]
    """A number for what is left, and for the last positions that windows see; never 0."""
    h = data[at.hash] + mixed(position + 1) * 31
    for i in range(max(0, position - seen) * at.words, position * at.words):
        h = mixed(h + data[at.rows + i] * 3 + 1)
    return h if h != 0 else 1


@compiled
def _is_dead(data, at, state):  # type: ignore[no-untyped-def]
    place = state & (at.memory_size - 1)
    while data[at.memory + place] != 0:
        if data[at.memory + place] == state:
            return True
        place = (place + 1) & (at.memory_size - 1)
    return False


@compiled
def _is_hopeful(data, at, position, goal, seen):  # type: ignore[no-untyped-def]
    """Whether what is placed may still become a slate of `goal` positions."""
    if at.counted == 1:
        return counts_hold(data, at, position, goal)
    return _promising(data, at, position, goal) and not _is_dead(data, at, _hash(data, at, position, seen))


@compiled
def _remember(data, at, state):  # type: ignore[no-untyped-def]
    if 2 * data[at.remembered] >= at.memory_size:
        return
    place = state & (at.memory_size - 1)
    while data[at.memory + place] != 0:
        if data[at.memory + place] == state:
            return
        place = (place + 1) & (at.memory_size - 1)
    data[at.memory + place] = state
    data[at.remembered] += 1


@compiled
def _is_whole(data, at, position):  # type: ignore[no-untyped-def]
    """Whether what stands before a position is a slate by itself."""
    if position <= data[at.last_pin]:
        return False
    for f in range(at.caps, at.rules):
        if data[at.used + f] < data[at.counts + f]:
            return False
    return True


@compiled
def _is_wanted(data, at, position, k):  # type: ignore[no-untyped-def]
    """Whether a kind is in a floor that is not met yet."""
    for f in range(at.caps, at.rules):
        unmet = position < data[at.span + f] and data[at.used + f] < data[at.counts + f]
        if unmet and (data[at.masks + k * at.words + f // BITS] >> (f % BITS)) & 1:
            return True
    return False


@compiled
def _rest_fits(data, at, begin, position, seen):  # type: ignore[no-untyped-def]
    """Whether the first witness goes on from `position` after what a search placed: windows see nothing of
    what is other than in the witness, enough of each kind are left, and its counts still hold."""
    for p in range(max(begin - 1, position - seen), position):
        if data[at.standing + p] != data[at.pool_kinds + p]:
            return False
    for p in range(begin - 1, position):
        k = data[at.standing + p]
        if k != data[at.pool_kinds + p]:
            wanted = 0
            for s in range(position, at.length):
                wanted += data[at.pool_kinds + s] == k
            if wanted > data[at.left + k]:
                return False
    for r in range(at.rules):
        if at.tallied <= r < at.caps or (r < at.caps and data[at.span + r] < at.length):
            continue
        members = data[at.pool_used + r]
        for p in range(begin - 1, position):
            if counts_there(data, at, p, r):
                members += is_in(data, at, at.rows, p, r) - is_in(data, at, at.pool_rows, p, r)
        if (members > data[at.counts + r]) if r < at.caps else (members < data[at.counts + r]):
            return False
    return True


@compiled
def search(data, at, begin, least, guided, effort, deadline):  # type: ignore[no-untyped-def]
    """Complete what is placed before `begin`: where `guided` with the kinds of the first witness, then with
    the one it has just before, else in `Layout.order`.

    Where `least` is less than L, slates that are shorter are kept in `best_kinds`, none shorter than that.

    Returns:
        FOUND with the slate placed; DEAD where there is none, UNKNOWN after `effort` states, LATE at
        `deadline` (seconds of `time.monotonic()`): what was placed from `begin` on is taken away then.
    """
    length, counted = at.length, at.counted == 1
    seen = 0
    for r in range(at.caps):
        if data[at.span + r] < length:
            seen = max(seen, data[at.span + r] - 1)
    if data[at.remembered] == NONE:
        data[at.memory : at.end] = 0
        data[at.remembered] = 0
    reading = np.empty(2, np.int64)
    position, entering, outcome = begin, True, DEAD
    while True:
        blocked, urgent = at.blocked + position * at.words, at.urgent + position * at.words
        cursor = at.cursor + position
        if entering:
            entering = False
            if position == length and _is_whole(data, at, position):
                return FOUND
            if guided and position < length and _rest_fits(data, at, begin, position, seen):
                for p in range(position, length):
                    if data[at.pins + p] == NONE:
                        put(data, at, p, data[at.pool_kinds + p], 1)
                return FOUND
            if least < length and position > data[at.best] and _is_whole(data, at, position):
                data[at.best] = position
                for p in range(position):
                    data[at.best_kinds + p] = data[at.standing + p]
            if effort == 0:
                outcome = UNKNOWN
            else:
                effort -= 1
                data[at.effort] -= 1
                if data[at.effort] % A_LOOK == 0 and deadline < np.inf and monotonic(reading) >= deadline:
                    outcome = LATE
            goal = max(max(least, data[at.best] + 1), max(position, data[at.last_pin]) + 1)
            data[cursor] = 2 * at.kinds
            going = outcome == DEAD and position < length and goal <= length
            if going and look_around(data, at, position, blocked, urgent):
                data[cursor] = GUIDE
        chosen = NOBODY
        if outcome == DEAD and position < length:
            if data[cursor] == GUIDE and guided and data[at.pins + position] == NONE:
                k = data[at.pool_kinds + position]
                data[cursor] = DISPLACED
                if data[at.left + k] > 0 and fits(data, at, k, blocked, urgent):
                    chosen = k
            if chosen == NOBODY and data[cursor] < 0 and not _is_hopeful(data, at, position, goal, seen):
                data[cursor] = 2 * at.kinds
            if data[at.pins + position] != NONE:
                if data[cursor] == GUIDE and pin_fits(data, at, position):
                    chosen = NONE
                data[cursor] = 2 * at.kinds
            while chosen == NOBODY and data[cursor] < 2 * at.kinds:
                turn = data[cursor]
                data[cursor] += 1
                if turn == 0 and at.rules == at.caps:
                    turn = at.kinds
                    data[cursor] = turn + 1
                if turn >= 0:  # first what an unmet floor wants, then all
                    k = data[at.order + (turn if turn < at.kinds else turn - at.kinds)]
                elif turn == DISPLACED and guided:
                    k = data[at.pool_kinds + begin - 1]
                else:
                    continue
                if (
                    k >= 0
                    and data[at.left + k] > 0
                    and fits(data, at, k, blocked, urgent)
                    and (turn < 0 or turn >= at.kinds or _is_wanted(data, at, position, k))
                ):
                    chosen = k
        if chosen >= 0:
            put(data, at, position, chosen, 1)
        if chosen != NOBODY:
            position += 1
            entering = True
            continue
        if outcome == DEAD and position < length and not counted:
            _remember(data, at, _hash(data, at, position, seen))
        if position == begin:
            return outcome
        position -= 1
        if data[at.pins + position] == NONE:
            put(data, at, position, data[at.standing + position], -1)
