"""Constraints as the one row of integers that `constraints.layout` lays out.

Legend: as there; C caps.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bundle.compiled import compiled
from constraints.layout import (
    BITS,
    CANDIDATES,
    CAPS,
    COUNTED,
    GROUPS,
    HEADER,
    KINDS,
    LENGTH,
    MEMBERSHIPS,
    NONE,
    RULES,
    TALLIED,
    WINDOWS,
    Ints,
)
from constraints.rules import Cap, Floor


def pack(
    pins: Mapping[int, int], caps: Sequence[Cap], floors: Sequence[Floor], candidates: int, length: int
) -> Ints:
    """Without a witness. Rules that cannot bind are left out, tops and windows end with the slate."""
    floors = sorted(floors, key=lambda floor: floor.top)
    listed: list[Cap | Floor] = [*caps, *floors]
    members = np.array([rule.members for rule in listed], np.bool_).reshape(len(listed), candidates)
    counts = np.array([rule.count for rule in listed], np.int64)
    spans = [length if cap.window is None else min(cap.window, length) for cap in caps]
    spans += [min(floor.top, length) for floor in floors]
    standing = np.full(length, NONE, np.int64)
    for position, candidate in pins.items():
        standing[position] = candidate
    packed: Ints = _pack(members, counts, np.array(spans, np.int64), len(caps), standing)
    return packed


@compiled
def _pack(members, counts, spans, caps, pins):  # type: ignore[no-untyped-def]
    """`[R, N] bool`, `[R]`, `[R]`, C, `[L]`, NONE where nothing is pinned."""
    listed, candidates = members.shape
    length = pins.shape[0]
    kept = np.empty(listed, np.int64)
    rules, tallied = 0, 0
    for apart in (False, True):  # caps of one member in a window come after the others
        for r in range(caps):
            size = 0
            for item in range(candidates):
                size += members[r, item]
            is_apart = counts[r] == 1 and spans[r] < length
            if is_apart == apart and counts[r] < min(size, spans[r]):
                kept[rules] = r
                rules += 1
        if not apart:
            tallied = rules
    kept_caps = rules
    for r in range(caps, listed):
        if counts[r] > 0:
            kept[rules] = r
            rules += 1
    kept = kept[:rules]
    count, span = counts[kept], spans[kept]
    caps = kept_caps
    words = (rules + BITS - 1) // BITS
    bits = np.zeros((candidates, words), np.int64)
    for i in range(rules):
        for item in range(candidates):
            if members[kept[i], item]:
                bits[item, i // BITS] |= 1 << (i % BITS)
    is_pinned = np.zeros(candidates, np.bool_)
    for position in range(length):
        if pins[position] != NONE:
            is_pinned[pins[position]] = True
    kind, first_of, size = _kinds(bits, is_pinned)
    kinds = first_of.shape[0]
    first, member = np.zeros(kinds + 1, np.int64), np.empty(kinds * rules, np.int64)
    shared, kinds_in_both = np.zeros((rules, rules), np.int64), np.zeros((rules, rules), np.int64)
    memberships = 0
    for k in range(kinds):
        for r in range(rules):
            if (bits[first_of[k], r // BITS] >> (r % BITS)) & 1:
                member[memberships] = r
                memberships += 1
        first[k + 1] = memberships
        for i in range(first[k], memberships):
            for j in range(first[k], memberships):
                shared[member[i], member[j]] += size[k]
                kinds_in_both[member[i], member[j]] += 1
    group_of, parent, group_of_kind = _tree(kinds_in_both, first, member)
    counted = rules == 0 or parent.shape[0] > 0
    rooms = np.zeros(rules, np.int64)
    neighbours = np.zeros((caps, 1 + words), np.int64)
    windows = 0
    for r in range(caps):
        counted &= span[r] >= length
        rooms[r] = (length // max(span[r], 1)) * count[r] + min(length % max(span[r], 1), count[r])
        if r >= tallied:
            w = 0
            while w < windows and neighbours[w, 0] != span[r]:
                w += 1
            windows = max(windows, w + 1)
            neighbours[w, 0] = span[r]
            neighbours[w, 1 + r // BITS] |= 1 << (r % BITS)
    takes = np.zeros(kinds)
    for k in range(kinds):
        for i in range(first[k], first[k + 1]):
            r = member[i]
            if r < caps:
                takes[k] += shared[r, r] / max(rooms[r], 0.5)
    if size.sum() < 2 * length and (span[:caps] < length).any():
        takes = -takes  # nearly all have to stand, and windows keep them apart: what takes most first
    free = np.zeros(length + 1, np.int64)
    pin_bits = np.zeros((length, words), np.int64)
    for position in range(length):
        free[position + 1] = free[position] + (pins[position] == NONE)
        if pins[position] != NONE:
            pin_bits[position] = bits[pins[position]]
    header = np.zeros(HEADER, np.int64)
    header[KINDS], header[RULES], header[CAPS], header[LENGTH] = kinds, rules, caps, length
    header[GROUPS], header[CANDIDATES], header[MEMBERSHIPS] = parent.shape[0], candidates, memberships
    header[COUNTED], header[WINDOWS], header[TALLIED] = counted, windows, tallied
    return np.concatenate(
        (
            header,
            kind,
            bits[first_of].ravel(),
            size,
            np.argsort(takes, kind="mergesort"),
            first,
            member[:memberships],
            count,
            span,
            shared.ravel(),
            pins,
            pin_bits.ravel(),
            free,
            np.full(length, NONE),
            group_of,
            parent,
            group_of_kind,
            _homes(size, first, member, rooms, caps, rules),
            neighbours[:windows].ravel(),
        )
    )


@compiled
def _kinds(bits, is_pinned):  # type: ignore[no-untyped-def]
    """Of each candidate its kind, and of each kind its first candidate and its size."""
    candidates, words = bits.shape
    places = 1
    while places < 2 * candidates + 2:
        places *= 2
    table = np.full(places, NONE, np.int64)
    kind = np.full(candidates, NONE, np.int64)
    first_of, size = np.empty(candidates, np.int64), np.zeros(candidates, np.int64)
    kinds = 0
    for item in range(candidates):
        if is_pinned[item]:
            continue
        h = 0
        for w in range(words):
            h = (h ^ bits[item, w]) * 0x9E3779B97F4A7C1
            h ^= h >> 29
        place = h & (places - 1)
        while table[place] != NONE:
            same = True
            for w in range(words):
                same &= bits[first_of[table[place]], w] == bits[item, w]
            if same:
                break
            place = (place + 1) & (places - 1)
        if table[place] == NONE:
            table[place] = kinds
            first_of[kinds] = item
            kinds += 1
        kind[item] = table[place]
        size[kind[item]] += 1
    return kind, first_of[:kinds], size[:kinds]


@compiled
def _tree(both, first, member):  # type: ignore[no-untyped-def]
    """Groups that are nested or disjoint as a tree, children first: the group of each rule, each group's
    parent, and the smallest group of each kind; G for none. No groups where some overlap.

    Args:
        both: `[R, R]`, kinds in both groups.
        first, member: as in `Layout`.
    """
    rules, kinds = both.shape[0], first.shape[0] - 1
    group_of = np.full(rules, NONE, np.int64)
    for r in range(rules):
        for q in range(r):
            if both[r, q] > 0 and both[r, q] < min(both[r, r], both[q, q]):
                return np.zeros(rules, np.int64), np.zeros(0, np.int64), np.zeros(kinds, np.int64)
    sizes = np.empty(rules, np.int64)
    for r in range(rules):
        sizes[r] = both[r, r]
    by_size = np.argsort(sizes, kind="mergesort")
    rule_of = np.empty(rules, np.int64)
    groups = 0
    for r in by_size:
        for g in range(groups):
            q = rule_of[g]
            if both[r, q] == both[r, r] and both[r, q] == both[q, q]:
                group_of[r] = g
        if group_of[r] == NONE:
            rule_of[groups] = r
            group_of[r] = groups
            groups += 1
    parent = np.full(groups, groups, np.int64)
    for g in range(groups):
        for above in range(groups - 1, g, -1):
            if both[rule_of[g], rule_of[g]] > 0 and both[rule_of[g], rule_of[above]] > 0:
                parent[g] = above
    group_of_kind = np.full(kinds, groups, np.int64)
    for k in range(kinds):
        for i in range(first[k], first[k + 1]):
            group_of_kind[k] = min(group_of_kind[k], group_of[member[i]])
    return group_of, parent, group_of_kind


@compiled
def _homes(size, first, member, rooms, caps, rules):  # type: ignore[no-untyped-def]
    """One of the caps that each kind is a member of, R for none, so that the rooms of all caps together say
    how long a slate can be at most: the caps with the least room for a member first."""
    kinds = size.shape[0]
    home = np.full(kinds, rules, np.int64)
    members = np.zeros(caps, np.int64)
    for k in range(kinds):
        for i in range(first[k], first[k + 1]):
            if member[i] < caps:
                members[member[i]] += size[k]
    while True:
        tightest, least = NONE, np.inf
        for r in range(caps):
            if members[r] > rooms[r] and rooms[r] / members[r] < least:
                tightest, least = r, rooms[r] / members[r]
        if tightest == NONE:
            return home
        for k in range(kinds):
            is_member = False
            for i in range(first[k], first[k + 1]):
                is_member |= member[i] == tightest
            if is_member and home[k] == rules:
                home[k] = tightest
                for i in range(first[k], first[k + 1]):
                    if member[i] < caps:
                        members[member[i]] -= size[k]
