"""Where everything lies in the one row of integers that `constraints.search` works on.

First what `constraints.packing` packs of a request's rules, then what is written while a slate is: one array,
because compiled code is slow to pass many and slow to compile. Candidates of the same memberships are one
*kind*, for they are interchangeable.

Legend: N candidates, T kinds, R rules (caps before floors), W words of bits, L positions, G groups of a tree,
P witnesses, E effort.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.compiled import compiled

Ints = NDArray[np.int64]

BITS = 63
"""Rules of a word: all but the sign."""

WITNESSES = 8

NONE = -1
"""No candidate, no kind: a pinned position, or a pinned candidate's kind."""

HEADER = 11
KINDS, RULES, CAPS, LENGTH, GROUPS, CANDIDATES, MEMBERSHIPS, COUNTED, WINDOWS, TALLIED, EFFORT = range(HEADER)
"""What the numbers are with which packed rules begin; there are none where KINDS is negative. EFFORT, of one
slate, is written by whoever packs."""


def is_constrained(packed: Ints) -> NDArray[np.bool_]:
    """Which rows, `[B, S]`, ask for anything."""
    return packed[:, KINDS] >= 0 if packed.shape[1] else np.zeros(len(packed), np.bool_)


class Layout(NamedTuple):
    """Sizes, then where each part begins."""

    kinds: int
    rules: int
    caps: int
    length: int
    groups: int
    candidates: int
    counted: int  # 1 where no rule is about windows and all groups are nested or disjoint: counts decide
    words: int
    memory_size: int  # a power of two
    windows: int
    tallied: int  # caps whose members are counted; the rest allow one member in a window
    # Packed.
    kind: int  # [N], NONE where pinned
    masks: int  # [T, W], which rules a kind is a member of
    size: int  # [T], candidates
    order: int  # [T], in which a search tries them
    first: int  # [T + 1], where a kind's rules begin in `member`
    member: int
    counts: int  # [R], at most or at least
    span: int  # [R], a cap's window, L for the whole slate; a floor's top
    shared: int  # [R, R], candidates that are not pinned in both groups
    pins: int  # [L], the candidate or NONE
    pin_masks: int  # [L, W]
    free: int  # [L + 1], positions before that are not pinned
    witness: int  # [L], kinds: a slate that satisfies everything
    group_of: int  # [R], the group of a rule
    parent: int  # [G], comes after its children; G for none
    group_of_kind: int  # [T], the smallest it is in; G for none
    home: int  # [T], one of a kind's caps, R for none
    apart: int  # [windows, 1 + W], the windows of caps that allow one member in them, and which those are
    packed_end: int
    # Written on the way.
    placed: int  # how many positions are
    remaining: int  # candidates neither placed nor pinned
    effort: int  # states that may still be searched
    hash: int  # of the kinds placed
    undecided: int  # kinds that were not allowed only because the effort did not suffice
    best: int  # length of `best_kinds`, NONE for none
    remembered: int  # states in `memory`, NONE before it is first used
    last_pin: int
    looked_at: int  # the position that `via` is of
    rows: int  # [L, W], the rules of what stands at a position, pins ahead included
    standing: int  # [L], kinds
    left: int  # [T], of each kind
    used: int  # [R], members in the slate or in a floor's top, pins ahead included
    both: int  # [R, R], what is left of `shared`: of each group, and of each floor with the others
    blocked: int  # [L + 1, W], caps that leave no room at a position
    urgent: int  # [L + 1, W], floors that need every position until their top
    cursor: int  # [L + 1]
    best_kinds: int  # [L], of the longest slate so far
    via: int  # [T], the witness it fits into, AGAIN, or FIRST_SWAP - s: exchanged with s
    fill: int  # [G + 1]
    demand: int  # [G + 1]
    own: int  # [G + 1]
    at_home: int  # [R + 1]
    pool_kinds: int  # [P, L], of the witnesses
    pool_rows: int  # [P, L, W]
    pool_used: int  # [P, R]
    ahead: int  # [P, T], of each kind after this position
    bars: int  # [P, W], caps that leave no room in a witness
    needs: int  # [P, W], floors that need a member here
    memory: int  # [at least E / 2], dead states
    end: int


@compiled
def lay_out(packed, effort):  # type: ignore[no-untyped-def]
    """The layout of a packed row, with room to remember a quarter of `effort` states: more would cost every
    slate the cache that its weights are in."""
    kinds, rules, length, groups = packed[KINDS], packed[RULES], packed[LENGTH], packed[GROUPS]
    words = (rules + BITS - 1) // BITS
    pool = 1 if packed[COUNTED] == 1 else WITNESSES
    memory_size = 1
    while packed[COUNTED] == 0 and memory_size < effort // 2:
        memory_size *= 2
    kind = HEADER
    masks = kind + packed[CANDIDATES]
    size = masks + kinds * words
    order = size + kinds
    first = order + kinds
    member = first + kinds + 1
    count = member + packed[MEMBERSHIPS]
    span = count + rules
    shared = span + rules
    pins = shared + rules * rules
    pin_masks = pins + length
    free = pin_masks + length * words
    witness = free + length + 1
    group_of = witness + length
    parent = group_of + rules
    group_of_kind = parent + groups
    home = group_of_kind + kinds
    apart = home + kinds
    packed_end = apart + packed[WINDOWS] * (1 + words)
    rows = packed_end + 9
    standing = rows + length * words
    left = standing + length
    used = left + kinds
    both = used + rules
    blocked = both + rules * rules
    urgent = blocked + (length + 1) * words
    cursor = urgent + (length + 1) * words
    best_kinds = cursor + length + 1
    via = best_kinds + length
    fill = via + kinds
    demand = fill + groups + 1
    own = demand + groups + 1
    at_home = own + groups + 1
    pool_kinds = at_home + rules + 1
    pool_rows = pool_kinds + pool * length
    pool_used = pool_rows + pool * length * words
    ahead = pool_used + pool * rules
    bars = ahead + pool * kinds
    needs = bars + pool * words
    memory = needs + pool * words
    return Layout(
        kinds,
        rules,
        packed[CAPS],
        length,
        groups,
        packed[CANDIDATES],
        packed[COUNTED],
        words,
        memory_size,
        packed[WINDOWS],
        packed[TALLIED],
        kind,
        masks,
        size,
        order,
        first,
        member,
        count,
        span,
        shared,
        pins,
        pin_masks,
        free,
        witness,
        group_of,
        parent,
        group_of_kind,
        home,
        apart,
        packed_end,
        packed_end,
        packed_end + 1,
        packed_end + 2,
        packed_end + 3,
        packed_end + 4,
        packed_end + 5,
        packed_end + 6,
        packed_end + 7,
        packed_end + 8,
        rows,
        standing,
        left,
        used,
        both,
        blocked,
        urgent,
        cursor,
        best_kinds,
        via,
        fill,
        demand,
        own,
        at_home,
        pool_kinds,
        pool_rows,
        pool_used,
        ahead,
        bars,
        needs,
        memory,
        memory + memory_size,
    )
