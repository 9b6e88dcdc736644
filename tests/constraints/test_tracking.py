"""What may stand at each position, against brute force over everything small; and what is hard, bounded."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from constraints_by_force import holds, longest_slates, small_constraints
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.layout import COUNTED, EFFORT, lay_out
from constraints.placement import allow, begun, placed
from constraints.planning import Plan, in_order, plan
from constraints.rules import Cap, Constraints, Floor
from constraints.search import A_LOOK
from constraints.tracking import Tracker, stack

Small = tuple[Constraints, int, int]


def allowed_along(
    plans: Sequence[Plan | None], slates: Sequence[Sequence[int]], candidates: int
) -> list[list[set[int]]]:
    """At each position of each slate, what may stand there after what it has before."""
    tracker, left = Tracker(stack(plans)), np.ones((len(plans), candidates), np.bool_)
    sets: list[list[set[int]]] = [[] for _ in plans]
    for position in range(max(map(len, slates))):
        for _ in range(2):  # asking twice changes nothing
            narrowed = tracker.narrowed(left)
        for row, slate in enumerate(slates):
            if position < len(slate):
                sets[row].append(set(np.flatnonzero(narrowed[row]).tolist()))
        tracker.place(np.array([s[position] if position < len(s) else -1 for s in slates]), left)
    return sets


@given(small_constraints() | small_constraints(nested=True), st.randoms(use_true_random=False))
@settings(max_examples=800, deadline=None)
def test_what_may_stand_is_what_can_be_completed(small: Small, random: Random) -> None:
    """In a batch, beside a slate that may be anything."""
    constraints, candidates, length = small
    slates = longest_slates(constraints, candidates, length)
    if not slates or not slates[0]:
        return
    slate = random.choice(slates)
    found = plan(constraints, candidates, length)
    exact, free = allowed_along([found, None], [slate, slate], candidates)
    for position in range(len(slate)):
        assert exact[position] == {s[position] for s in slates if s[:position] == slate[:position]}
        assert free[position] == set(range(candidates)) - set(slate[:position])


@pytest.mark.parametrize(
    ("caps", "counted"),
    [
        ((), True),
        (([0, 1, 2], None), True),
        (([0, 1, 2], 3), False),
    ],
)
def test_counts_decide_where_no_rule_is_about_windows(caps: tuple, counted: bool) -> None:
    rules = (Cap("cap", np.isin(np.arange(9), caps[0]), 1, caps[1]),) if caps else ()
    assert bool(plan(Constraints(caps=rules), 9, 6).packed[COUNTED]) is counted


def test_counts_decide_where_groups_are_nested_but_not_where_they_overlap() -> None:
    inner, outer = np.arange(9) < 3, np.arange(9) < 6
    across = (np.arange(9) >= 2) & (np.arange(9) < 5)
    for other, counted in ((inner, True), (~outer, True), (across, False)):
        rules = Constraints(
            caps=(Cap("one", other, 1), Cap("two", inner, 2)), floors=(Floor("at least", outer, 2, 4),)
        )
        found = plan(rules, 9, 6)
        assert bool(found.packed[COUNTED]) is counted
        assert holds(rules, in_order(found))


def covering(count: int, elements: int) -> Constraints:
    """Random triples, each element in one of them at most: which make up the longest slate is hard."""
    rng = np.random.default_rng(3)
    triples = np.array([rng.choice(elements, 3, replace=False) for _ in range(count)])
    triples[: elements // 3] = np.arange(elements).reshape(-1, 3)
    members = [np.any(triples == e, axis=1) for e in range(elements)]
    return Constraints(caps=tuple(Cap(f"once {e}", covered, 1) for e, covered in enumerate(members)))


def test_a_slate_without_an_end_in_sight_is_written_within_its_effort() -> None:
    constraints = covering(150, 60)
    found = plan(constraints, 150, 20, effort=400)
    packed = stack([found])[0]
    data, at = begun(packed), lay_out(packed, int(packed[EFFORT]))
    rng = np.random.default_rng(0)
    for _ in range(found.length):
        allow(data, at, np.inf)
        kinds = np.flatnonzero(data[at.via : at.via + at.kinds] != -1)
        assert len(kinds)
        items = np.flatnonzero(data[at.kind : at.kind + at.candidates] == rng.choice(kinds))
        placed(packed, data, items[0])
    assert data[at.effort] >= 0
    assert data[at.undecided] > 0
    assert holds(constraints, in_order(found))


def test_a_long_search_looks_at_the_clock() -> None:
    found = plan(covering(150, 60), 150, 20)
    packed = stack([found])[0]
    data, at = begun(packed), lay_out(packed, int(packed[EFFORT]))
    in_time = True
    while in_time and data[at.placed] < at.length:
        before = data[at.effort]
        in_time = allow(data, at, 0.0)
        assert before - data[at.effort] <= A_LOOK or in_time
        if in_time:
            placed(packed, data, int(in_order(found)[data[at.placed]]))
    assert not in_time
