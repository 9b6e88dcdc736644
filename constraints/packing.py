"""Constraints as the one row of integers that `constraints.layout` lays out.

Legend: N candidates, T kinds, R rules, W words of bits, L positions.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from constraints.layout import BITS, HEADER, NONE, Ints
from constraints.rules import Cap, Floor


def pack(
    pins: Mapping[int, int], caps: Sequence[Cap], floors: Sequence[Floor], candidates: int, length: int
) -> Ints:
    """Without a witness. Rules that cannot bind are left out, tops and windows end with the slate."""
    floors = sorted((floor for floor in floors if floor.count > 0), key=lambda floor: floor.top)
    caps = [cap for cap in caps if _can_bind(cap, length)]
    listed: list[Cap | Floor] = [*caps, *floors]
    members = np.array([rule.members for rule in listed], np.bool_).reshape(len(listed), candidates)
    rules = len(members)
    words = -(-rules // BITS)
    bits = np.zeros((candidates, words), np.int64)
    for r in range(rules):
        bits[:, r // BITS] |= members[r].astype(np.int64) << (r % BITS)
    pinned = np.fromiter(pins.values(), np.int64, len(pins))
    free = np.ones(candidates, np.bool_)
    free[pinned] = False
    masks, kind_of_free, size = _kinds(bits[free])
    kind = np.full(candidates, NONE, np.int64)
    kind[free] = kind_of_free
    kinds = len(size)
    number = np.arange(rules)
    holds = (masks[:, number // BITS] >> (number % BITS)) & 1
    both = (holds * size[:, None]).T @ holds
    count = np.array([rule.count for rule in listed], np.int64)
    span = np.array(
        [min(cap.window or length, length) for cap in caps] + [min(floor.top, length) for floor in floors],
        np.int64,
    )
    standing = np.full(length, NONE, np.int64)
    pin_masks = np.zeros((length, words), np.int64)
    for position, candidate in pins.items():
        standing[position] = candidate
        pin_masks[position] = bits[candidate]
    group_of, parent, group_of_kind = _tree(holds.astype(np.bool_), size)
    counted = (
        len(parent) == 0 if rules == 0 else bool(len(parent)) and bool((span[: len(caps)] >= length).all())
    )
    header = np.zeros(HEADER, np.int64)
    header[:] = (kinds, rules, len(caps), length, len(parent), candidates, int(holds.sum()), int(counted))
    return np.concatenate(
        [
            header,
            kind,
            masks.ravel(),
            size,
            _order(holds[:, : len(caps)], size, count[: len(caps)], span[: len(caps)], length),
            np.concatenate([[0], holds.sum(axis=1).cumsum()]),
            np.nonzero(holds)[1],
            count,
            span,
            both.ravel(),
            standing,
            pin_masks.ravel(),
            np.concatenate([[0], (standing == NONE).cumsum()]),
            np.full(length, NONE),
            group_of,
            parent,
            group_of_kind,
            _homes(holds, size, count, span, len(caps), length),
        ],
        dtype=np.int64,
    )


def _can_bind(cap: Cap, length: int) -> bool:
    return cap.count < min(int(cap.members.sum()), cap.window or length, length)


def _kinds(bits: Ints) -> tuple[Ints, Ints, Ints]:
    """The different rows of `[N, W]`, which of them each is, and how many are each."""
    if bits.shape[1] == 0:
        some = min(len(bits), 1)
        return np.zeros((some, 0), np.int64), np.zeros(len(bits), np.int64), np.full(some, len(bits))
    masks, kind, size = np.unique(bits, axis=0, return_inverse=True, return_counts=True)
    return masks, kind.reshape(-1), size


def _rooms(count: Ints, span: Ints, length: int) -> Ints:
    """Members that a slate has room for, of each cap."""
    windows, rest = np.divmod(length, np.maximum(span, 1))
    return windows * count + np.minimum(rest, count)


def _order(holds: Ints, size: Ints, count: Ints, span: Ints, length: int) -> Ints:
    """Kinds in the order of a search: what takes least of the caps first; where nearly all candidates have to
    stand and windows keep them apart, what takes most."""
    share = (holds * size[:, None]).sum(axis=0) / np.maximum(_rooms(count, span, length), 0.5)
    takes = holds @ share
    tight = (span < length).any() and size.sum() < 2 * length
    return np.argsort(-takes if tight else takes, kind="stable")


def _homes(holds: Ints, size: Ints, count: Ints, span: Ints, caps: int, length: int) -> Ints:
    """One of the caps that each kind is a member of, so that the rooms of all caps together say how long a
    slate can be at most: the caps with the least room for a member first."""
    home = np.full(len(size), len(count), np.int64)
    rooms = _rooms(count[:caps], span[:caps], length)
    homeless = holds[:, :caps] * size[:, None]
    while True:
        members = homeless.sum(axis=0)
        if not (members > rooms).any():
            return home
        tightest = int(np.argmin(np.where(members > rooms, rooms / np.maximum(members, 1), np.inf)))
        home[homeless[:, tightest] > 0] = tightest
        homeless[homeless[:, tightest] > 0] = 0


def _tree(holds: NDArray[np.bool_], size: Ints) -> tuple[Ints, Ints, Ints]:
    """Groups that are nested or disjoint as a tree, children first: the group of each rule, each group's
    parent, and the smallest group of each kind. No groups where some overlap."""
    kinds, rules = holds.shape
    group_of_kind = np.zeros(kinds, np.int64)
    nothing = np.zeros(rules, np.int64), np.zeros(0, np.int64), group_of_kind
    if rules == 0:
        return nothing
    groups, group_of = np.unique(holds.T, axis=0, return_inverse=True)
    by_size = groups.sum(axis=1).argsort(kind="stable")
    groups, group_of = groups[by_size], by_size.argsort()[group_of.reshape(-1)]
    overlap = groups.astype(np.int64) @ groups.T.astype(np.int64)
    kinds_of = groups.sum(axis=1)
    if ((overlap > 0) & (overlap < np.minimum(kinds_of[:, None], kinds_of))).any():
        return nothing
    parent = np.full(len(groups), len(groups), np.int64)
    for g in range(len(groups)):
        above = np.flatnonzero(overlap[g, g + 1 :] == kinds_of[g]) if kinds_of[g] else np.zeros(0, np.int64)
        parent[g] = g + 1 + above[0] if len(above) else len(groups)
    group_of_kind[:] = np.where(groups.any(axis=0), groups.argmax(axis=0), len(groups))
    return group_of, parent, group_of_kind
