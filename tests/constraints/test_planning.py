"""Plans against brute force over everything small, and what they cost where nothing is small."""

import numpy as np
import pytest
from constraints_by_force import holds, longest_slates, only, small_constraints, subsets
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.planning import EffortError, in_order, plan
from constraints.rules import Cap, ConflictError, Constraints, Floor

Small = tuple[Constraints, int, int]


@given(small_constraints())
@settings(max_examples=400, deadline=None)
def test_a_plan_is_as_long_as_any_slate_can_be(small: Small) -> None:
    constraints, candidates, length = small
    expected = longest_slates(constraints, candidates, length)
    if not expected:
        with pytest.raises(ConflictError):
            plan(constraints, candidates, length)
        return
    found = plan(constraints, candidates, length)
    assert found.length == len(expected[0])
    assert tuple(found.witness.tolist()) in expected
    assert bool(found.shortened_by) == (found.length < min(candidates, length))


@given(small_constraints(), st.randoms(use_true_random=False))
@settings(max_examples=400, deadline=None)
def test_in_order_is_the_first_of_all_slates(small: Small, random: object) -> None:
    constraints, candidates, length = small
    slates = longest_slates(constraints, candidates, length)
    if not slates:
        return
    found = plan(constraints, candidates, length)
    assert in_order(found) == list(min(slates))
    order = list(range(candidates))
    random.shuffle(order)  # type: ignore[attr-defined]
    rank = {item: place for place, item in enumerate(order)}
    assert in_order(found, order) == list(min(slates, key=lambda slate: [rank[item] for item in slate]))


@given(small_constraints())
@settings(max_examples=400, deadline=None)
def test_a_conflict_is_gone_without_any_one_of_it(small: Small) -> None:
    constraints, candidates, length = small
    try:
        plan(constraints, candidates, length)
    except ConflictError as error:
        conflicting = only(constraints, error.names)
        assert not longest_slates(conflicting, candidates, length)
        for name, fewer in subsets(conflicting):
            assert longest_slates(fewer, candidates, length), name


@given(small_constraints())
@settings(max_examples=200, deadline=None)
def test_what_shortens_a_slate_does_so_by_itself(small: Small) -> None:
    constraints, candidates, length = small
    try:
        found = plan(constraints, candidates, length)
    except ConflictError:
        return
    if found.shortened_by:
        names = [*found.shortened_by, *(f.name for f in constraints.floors), *constraints.pin_names.values()]
        alone = only(constraints, names)
        assert len(longest_slates(alone, candidates, length)[0]) == found.length
        for name, fewer in subsets(alone):
            if name in found.shortened_by:
                assert len(longest_slates(fewer, candidates, length)[0]) > found.length


def members(candidates: int, *items: int) -> np.ndarray:
    return np.isin(np.arange(candidates), items)


def test_two_that_contradict_each_other_are_named() -> None:
    drama = members(6, 0, 1, 2)
    promoted = members(6, 3)
    constraints = Constraints(
        pins={0: 4},
        pin_names={0: "pinned.0"},
        caps=(Cap("at_most.0", drama, 1), Cap("at_most.1", promoted, 1, 2)),
        floors=(Floor("at_least.0", drama, 2, 3), Floor("at_least.1", promoted, 1, 5)),
    )
    with pytest.raises(ConflictError, match=r"^at_most\.0 and at_least\.0$") as error:
        plan(constraints, 6, 5)
    assert error.value.names == ("at_most.0", "at_least.0")


def test_what_cannot_hold_by_itself_is_named_alone() -> None:
    with pytest.raises(ConflictError, match=r"^beyond$"):
        plan(Constraints(pins={5: 0}, pin_names={5: "beyond"}), 4, 10)
    with pytest.raises(ConflictError, match=r"^too many$"):
        plan(Constraints(floors=(Floor("too many", members(9, 1, 2), 3, 5),)), 9, 8)
    twice = Constraints(pins={0: 1, 2: 1}, pin_names={0: "first", 2: "second"})
    with pytest.raises(ConflictError, match=r"^first and second$"):
        plan(twice, 9, 8)


def test_caps_shorten() -> None:
    everything = np.ones(8, np.bool_)
    found = plan(Constraints(caps=(Cap("wide", everything, 5), Cap("narrow", everything, 2))), 8, 6)
    assert (found.length, found.shortened_by) == (2, ("narrow",))
    none = plan(Constraints(caps=(Cap("none", everything, 0),)), 8, 6)
    assert (none.length, none.shortened_by, in_order(none)) == (0, ("none",), [])


def test_nothing_is_asked() -> None:
    found = plan(Constraints(), 5, 3)
    assert (found.length, found.shortened_by, in_order(found, [4, 3, 2, 1, 0])) == (3, (), [4, 3, 2])


def overlapping(rng: np.random.Generator, candidates: int, groups: int, each: int = 3) -> np.ndarray:
    """Each candidate in some of the groups, the first being the most frequent: `[groups, N]`."""
    chance = 1 / np.arange(1, groups + 1)
    of = [
        rng.choice(groups, size=rng.integers(1, each + 1), replace=False, p=chance / chance.sum())
        for _ in range(candidates)
    ]
    return np.array([[g in mine for mine in of] for g in range(groups)])


@pytest.mark.parametrize(("candidates", "length"), [(50, 10), (50, 50), (200, 200), (2000, 200)])
@pytest.mark.parametrize("window", [None, 3, 20])
def test_many_overlapping_groups(candidates: int, length: int, window: int | None) -> None:
    """More than a word has bits."""
    rng = np.random.default_rng(candidates)
    genres = overlapping(rng, candidates, 70)
    caps = tuple(Cap(f"cap {g}", genre, 3, window) for g, genre in enumerate(genres))
    constraints = Constraints(caps=caps, floors=(Floor("floor", genres[8], 1, 5),))
    found = plan(constraints, candidates, length)
    assert holds(constraints, found.witness.tolist())
    slate = in_order(found)
    assert len(slate) == found.length
    assert holds(constraints, slate)


def test_what_is_hard_takes_no_more_than_its_effort() -> None:
    """Exact cover: which of many triples, each at most once covered, make up a floor for each element."""
    rng = np.random.default_rng(3)
    triples = np.array([rng.choice(36, 3, replace=False) for _ in range(120)])
    elements = [np.any(triples == e, axis=1) for e in range(36)]
    caps = tuple(Cap(f"once {e}", covered, 1) for e, covered in enumerate(elements))
    floors = tuple(Floor(f"covered {e}", covered, 1, 12) for e, covered in enumerate(elements))
    with pytest.raises((EffortError, ConflictError)):
        plan(Constraints(caps=caps, floors=floors), 120, 12, effort=500)
    packing = Constraints(caps=caps)
    found = plan(packing, 120, 12)
    assert holds(packing, in_order(found))


def test_where_time_counts_a_state_of_many_kinds_is_more_than_one() -> None:
    """Twenty overlapping groups. Of a few items a slate is found at once, of a thousand different ones too,
    but not in the time that as many states would take of few."""
    draw = np.random.default_rng(0)
    groups = draw.random((20, 1000)) < 0.1

    def planned(candidates: int, within: int | None) -> int:
        caps = tuple(Cap(f"group {g}", group[:candidates], 3, 5) for g, group in enumerate(groups))
        return plan(Constraints(caps=caps), candidates, 40, within=within).length

    assert planned(40, 512) == 40
    assert planned(1000, None) == 40
    with pytest.raises(EffortError):
        planned(1000, 512)


def test_in_order_judges_no_more_than_it_takes() -> None:
    """So the first of a thousand kinds, each allowed, costs what the first of few does: nothing is searched
    for the others, and all effort is left for what comes late in the slate."""
    draw = np.random.default_rng(3)
    caps = tuple(Cap(f"group {g}", draw.random(1000) < 0.1, 2, 10) for g in range(20))
    found = plan(Constraints(caps=caps), 1000, 100)
    order = draw.permutation(1000)
    slate = in_order(found, order)
    assert len(set(slate)) == found.length == 100
    rank = np.argsort(order)
    for position, item in enumerate(slate):  # no earlier one would have fitted the windows behind it
        for other in order[: rank[item]][-20:]:
            window = [*slate[max(0, position - 9) : position], other]
            if other not in slate[:position]:
                assert any(cap.members[window].sum() > cap.count for cap in caps), (position, other)
