"""Small constraints, and every slate that satisfies them, found by trying all."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from hypothesis import strategies as st

from constraints.rules import Cap, Constraints, Floor

MOST = 6


@st.composite
def small_constraints(draw: st.DrawFn, nested: bool = False) -> tuple[Constraints, int, int]:
    """Constraints over a few candidates, how many there are, and a length to ask for. Of nested groups none
    overlap, and no cap has a window."""
    candidates = draw(st.integers(1, MOST))
    length = draw(st.integers(1, MOST))

    def members() -> np.ndarray:
        if nested:
            level = draw(st.integers(0, 3))
            return np.arange(candidates) >> level == draw(st.integers(0, (candidates - 1) >> level))
        return np.array(draw(st.lists(st.booleans(), min_size=candidates, max_size=candidates)))

    windows = st.none() if nested else st.none() | st.integers(1, MOST + 2)
    caps = [
        Cap(f"cap {i}", members(), draw(st.integers(0, 3)), draw(windows))
        for i in range(draw(st.integers(0, 4)))
    ]
    if caps and draw(st.booleans()):
        caps.append(Cap("cap again", caps[0].members, draw(st.integers(0, 3)), draw(windows)))
    floors = [
        Floor(f"floor {i}", members(), draw(st.integers(0, 3)), draw(st.integers(1, MOST + 1)))
        for i in range(draw(st.integers(0, 3)))
    ]
    if floors and draw(st.booleans()):
        floors.append(
            Floor("floor again", floors[0].members, draw(st.integers(1, 3)), draw(st.integers(1, MOST)))
        )
    pins = draw(st.dictionaries(st.integers(0, length - 1), st.integers(0, candidates - 1), max_size=2))
    names = {position: f"pin {position}" for position in pins}
    return Constraints(pins, names, tuple(caps), tuple(floors)), candidates, length


def holds(constraints: Constraints, slate: Sequence[int]) -> bool:
    """Whether a whole slate satisfies everything, told apart from how it is written."""
    if len(set(slate)) < len(slate):
        return False
    if any(position >= len(slate) or slate[position] != c for position, c in constraints.pins.items()):
        return False
    for cap in constraints.caps:
        window = cap.window or len(slate)
        for start in range(len(slate)):
            if sum(bool(cap.members[item]) for item in slate[start : start + window]) > cap.count:
                return False
    return all(
        sum(bool(floor.members[item]) for item in slate[: floor.top]) >= floor.count
        for floor in constraints.floors
    )


def longest_slates(constraints: Constraints, candidates: int, length: int) -> list[tuple[int, ...]]:
    """All that are as long as any can be; none where the constraints contradict each other."""
    for longest in range(min(candidates, length), -1, -1):
        found = [slate for slate in permutations(range(candidates), longest) if holds(constraints, slate)]
        if found:
            return found
    return []


def subsets(constraints: Constraints) -> list[tuple[str, Constraints]]:
    """The constraints without one of them each, by its name."""
    without = [
        (
            cap.name,
            Constraints(
                constraints.pins, constraints.pin_names, _but(constraints.caps, cap), constraints.floors
            ),
        )
        for cap in constraints.caps
    ]
    without += [
        (
            floor.name,
            Constraints(
                constraints.pins, constraints.pin_names, constraints.caps, _but(constraints.floors, floor)
            ),
        )
        for floor in constraints.floors
    ]
    for position in constraints.pins:
        pins = {p: c for p, c in constraints.pins.items() if p != position}
        without.append(
            (
                constraints.pin_names[position],
                Constraints(pins, constraints.pin_names, constraints.caps, constraints.floors),
            )
        )
    return without


def only(constraints: Constraints, names: Sequence[str]) -> Constraints:
    """Those of the names."""
    return Constraints(
        {p: c for p, c in constraints.pins.items() if constraints.pin_names[p] in names},
        constraints.pin_names,
        tuple(cap for cap in constraints.caps if cap.name in names),
        tuple(floor for floor in constraints.floors if floor.name in names),
    )


def _but(rules: tuple, rule: object) -> tuple:
    return tuple(other for other in rules if other is not rule)
