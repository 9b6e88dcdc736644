"""Whether constraints can hold, how long a slate they leave, and the slate that a fallback writes.

Legend: N candidates, T kinds, L positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.errors import RerankerError
from constraints.layout import CANDIDATES, COUNTED, EFFORT, KINDS, Ints
from constraints.packing import pack
from constraints.rules import Cap, ConflictError, Constraints, Floor, rule_of
from constraints.slates import find_longest, set_witness, write_in_order

STATES = 2048
"""States that the searches for one slate may go through."""

MEMBERS_A_STATE = 512
"""Candidates gone over, a rule at a time, while a state could be searched."""

KINDS_A_STATE = 64
"""Kinds of candidates whose number makes a state take as long again, where time is what counts."""

A_TRY = 8
"""States that could be searched meanwhile, whatever is tried."""


class EffortError(RerankerError):
    """Whether some slate satisfies the constraints could not be decided."""


@dataclass(frozen=True)
class Plan:
    """What a slate is to satisfy, known to be possible.

    Attributes:
        length: of the longest slate that satisfies them, at most what was asked for; of the longest that was
            found where the effort did not suffice.
        shortened_by: names of caps that made it shorter than what was asked for.
        witness: `[length] int64`, one slate that satisfies them.
        packed: what `constraints.layout` lays out.
        states: that were searched to find it.
    """

    constraints: Constraints
    length: int
    shortened_by: tuple[str, ...]
    witness: NDArray[np.int64]
    packed: Ints = field(repr=False)
    states: int = 0


class _Pin(NamedTuple):
    name: str
    position: int
    candidate: int


_Rule = _Pin | Cap | Floor


class _Found(NamedTuple):
    """The longest slate, of at most the length asked for; -1 where there is none.

    Attributes:
        witness: `[L] int64`, its items; None where it is to be packed for its length first.
        states: what the search took.
    """

    length: int
    decided: bool
    witness: Ints | None
    packed: Ints
    states: int


def plan(
    constraints: Constraints, candidates: int, length: int, effort: int = STATES, within: int | None = None
) -> Plan:
    """Find the longest slate of at most `length` of the candidates that satisfies the constraints.

    Args:
        effort: states that a search may go through, here and while the slate is written.
        within: that all of this may, what is packed included, and by time: those of many kinds count more
            than once. Nothing is left undecided then.

    Raises:
        ConflictError: there is none.
        EffortError: it could not be decided within `effort` states, or not all `within` so many.
    """
    pins = [
        _Pin(constraints.pin_names.get(position, f"pins.{position}"), position, candidate)
        for position, candidate in sorted(constraints.pins.items())
    ]
    rules: list[_Rule] = [*constraints.caps, *constraints.floors, *pins]
    asked, left = min(candidates, length), effort
    if within is not None:
        left = min(effort, within - _packing(rules, candidates))
        if left < 0:
            raise EffortError("the constraints are many")
    found = _longest(rules, candidates, asked, left, within is not None)
    if within is not None:
        left -= found.states
    if not found.decided and (found.length < 0 or within is not None):
        raise EffortError("whether the constraints can hold together takes too long to tell")
    shortened_by: tuple[str, ...] = ()
    if found.length < asked and found.decided:
        removable = rules if found.length < 0 else constraints.caps
        weighed = within is not None
        least, is_least = _least(rules, removable, candidates, asked, found.length + 1, left, weighed)
        if not is_least and within is not None:
            raise EffortError("which constraints are in the way takes too long to tell")
        if found.length < 0:
            raise ConflictError(_names(least))
        shortened_by = _names([rule for rule in least if isinstance(rule, Cap)])
    elif found.length < asked:
        shortened_by = _names([cap for cap in constraints.caps if _is_full(cap, found)])
    packed, witness = found.packed, found.witness
    if found.length < asked:
        packed = _pack(rules, candidates, found.length)
        if witness is None:
            witness = np.empty(found.length, np.int64)
            find_longest(packed, effort, witness)
    assert witness is not None
    if found.length:
        set_witness(packed, witness)
    packed[EFFORT] = effort
    return Plan(constraints, found.length, shortened_by, witness, packed, found.states)


def in_order(plan: Plan, order: Sequence[int] | None = None, effort: int | None = None) -> list[int]:
    """The slate with the first candidate in `order` at each position that may stand there, so that it can
    still be completed, as far as `effort` tells, the plan's if absent. `order` has every candidate; ascending
    where it is not given."""
    candidates = int(plan.packed[CANDIDATES])
    ranked = np.arange(candidates) if order is None else np.asarray(order, np.int64)
    slate = np.empty(plan.length, np.int64)
    packed = plan.packed
    if effort is not None and effort < packed[EFFORT]:
        packed = packed.copy()
        packed[EFFORT] = effort
    write_in_order(packed, ranked, slate)
    return [int(item) for item in slate]


def _longest(
    rules: Sequence[_Rule], candidates: int, asked: int, effort: int, weighed: bool = False
) -> _Found:
    """`weighed`: states of many kinds count more than once."""
    pins = [rule for rule in rules if isinstance(rule, _Pin)]
    if len({pin.candidate for pin in pins}) < len(pins) or any(pin.position >= asked for pin in pins):
        return _Found(-1, True, None, np.zeros(0, np.int64), 0)
    packed = _pack(rules, candidates, asked)
    witness = np.empty(asked, np.int64)
    weight = 1 + int(packed[KINDS]) // KINDS_A_STATE if weighed and not packed[COUNTED] else 1
    length, decided, known, states = find_longest(packed, effort // weight, witness)
    states *= weight
    return _Found(length, decided, witness[: max(length, 0)].copy() if known else None, packed, states)


def _pack(rules: Sequence[_Rule], candidates: int, length: int) -> Ints:
    pins = {rule.position: rule.candidate for rule in rules if isinstance(rule, _Pin)}
    caps = [rule for rule in rules if isinstance(rule, Cap)]
    return pack(pins, caps, [rule for rule in rules if isinstance(rule, Floor)], candidates, length)


def _packing(rules: Sequence[_Rule], candidates: int) -> int:
    """States that could be searched while these are packed."""
    return len(rules) * candidates // MEMBERS_A_STATE


def _least(
    rules: Sequence[_Rule],
    removable: Sequence[_Rule],
    candidates: int,
    asked: int,
    length: int,
    effort: int,
    weighed: bool,
) -> tuple[list[_Rule], bool]:
    """Rules that allow no slate of `length` or longer, without any that can be removed, many at a time being
    tried first; and whether `effort` sufficed to try all. Where slates are only shortened the caps that come
    of one rule go together."""
    kept = list(rules)
    together: dict[str, list[_Rule]] = {}
    for rule in removable:
        together.setdefault(rule_of(rule.name), []).append(rule)
    parts, left = [list(together.values())], effort
    while parts:
        part = parts.pop()
        some = {id(rule) for several in part for rule in several}
        fewer = [rule for rule in kept if id(rule) not in some]
        left -= A_TRY + _packing(fewer, candidates)
        if left <= 0:
            return kept, False
        found = _longest(fewer, candidates, asked, min(left, max(effort // 4, 1)), weighed)
        left -= found.states
        if found.decided and found.length < length:
            kept = fewer
        elif len(part) > 1:
            half = len(part) // 2
            parts += [part[half:], part[:half]]
        elif len(part[0]) > 1 and length == 0:
            half = len(part[0]) // 2
            parts += [[part[0][half:]], [part[0][:half]]]
    return kept, True


def _is_full(cap: Cap, found: _Found) -> bool:
    """Whether no other member could stand after the slate."""
    assert found.witness is not None
    last = found.witness if cap.window is None else found.witness[max(0, found.length + 1 - cap.window) :]
    return int(cap.members[last].sum()) >= cap.count


def _names(rules: Sequence[_Rule]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule.name for rule in rules))
