"""Whether constraints can hold, how long a slate they leave, and the slate that a fallback writes.

Legend: N candidates, T kinds, L positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.errors import RerankerError
from constraints.layout import CANDIDATES, EFFORT, Ints
from constraints.packing import pack
from constraints.rules import Cap, ConflictError, Constraints, Floor
from constraints.slates import find_longest, set_witness, write_in_order

STATES = 2048
"""States that the searches for one slate may go through."""


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
    """

    constraints: Constraints
    length: int
    shortened_by: tuple[str, ...]
    witness: NDArray[np.int64]
    packed: Ints = field(repr=False)


class _Pin(NamedTuple):
    name: str
    position: int
    candidate: int


_Rule = _Pin | Cap | Floor


class _Found(NamedTuple):
    """The longest slate, of at most the length asked for; -1 where there is none."""

    length: int
    decided: bool
    packed: Ints
    witness: Ints  # [L], items


def plan(constraints: Constraints, candidates: int, length: int, effort: int = STATES) -> Plan:
    """Find the longest slate of at most `length` of the candidates that satisfies the constraints.

    Raises:
        ConflictError: there is none.
        EffortError: it could not be decided within `effort` states.
    """
    pins = [
        _Pin(constraints.pin_names.get(position, f"pins.{position}"), position, candidate)
        for position, candidate in sorted(constraints.pins.items())
    ]
    rules: list[_Rule] = [*constraints.caps, *constraints.floors, *pins]
    asked = min(candidates, length)
    found = _longest(rules, candidates, asked, effort)
    if found.length < 0:
        if not found.decided:
            raise EffortError("whether the constraints can hold together takes too long to tell")
        raise ConflictError(_names(_least(rules, rules, candidates, asked, 0, effort)))
    shortened_by: tuple[str, ...] = ()
    if found.length < asked and found.decided:
        least = _least(rules, constraints.caps, candidates, asked, found.length + 1, effort // 4)
        shortened_by = _names([rule for rule in least if isinstance(rule, Cap)])
    elif found.length < asked:
        shortened_by = _names([cap for cap in constraints.caps if _is_full(cap, found)])
    found.packed[EFFORT] = effort
    return Plan(constraints, found.length, shortened_by, found.witness, found.packed)


def in_order(plan: Plan, order: Sequence[int] | None = None) -> list[int]:
    """The slate with the first candidate in `order` at each position that may stand there, so that it can
    still be completed. `order` has every candidate; ascending where it is not given."""
    candidates = int(plan.packed[CANDIDATES])
    ranked = np.arange(candidates) if order is None else np.asarray(order, np.int64)
    slate = np.empty(plan.length, np.int64)
    write_in_order(plan.packed, ranked, slate)
    return [int(item) for item in slate]


def _longest(rules: Sequence[_Rule], candidates: int, asked: int, effort: int) -> _Found:
    pins = [rule for rule in rules if isinstance(rule, _Pin)]
    places = {pin.position: pin.candidate for pin in pins}
    if len(set(places.values())) < len(pins) or any(pin.position >= asked for pin in pins):
        return _Found(-1, True, *(np.zeros(0, np.int64),) * 2)
    caps = [rule for rule in rules if isinstance(rule, Cap)]
    floors = [rule for rule in rules if isinstance(rule, Floor)]
    packed = pack(places, caps, floors, candidates, asked)
    witness = np.empty(asked, np.int64)
    length, decided, known = find_longest(packed, effort, witness)
    if 0 <= length < asked:
        packed = pack(places, caps, floors, candidates, length)
        if not known:
            witness = np.empty(length, np.int64)
            find_longest(packed, effort, witness)
    witness = witness[: max(length, 0)].copy()
    if length > 0:
        set_witness(packed, witness)
    return _Found(length, decided, packed, witness)


def _least(
    rules: Sequence[_Rule],
    removable: Sequence[_Rule],
    candidates: int,
    asked: int,
    length: int,
    effort: int,
) -> list[_Rule]:
    """Rules that allow no slate of `length` or longer, without any that can be removed; many at a time are
    tried first."""
    kept = list(rules)
    parts = [list(removable)]
    while parts:
        part = parts.pop()
        fewer = [rule for rule in kept if not any(rule is other for other in part)]
        found = _longest(fewer, candidates, asked, effort)
        if found.decided and found.length < length:
            kept = fewer
        elif len(part) > 1:
            half = len(part) // 2
            parts += [part[half:], part[:half]]
    return kept


def _is_full(cap: Cap, found: _Found) -> bool:
    """Whether no other member could stand after the slate."""
    last = found.witness if cap.window is None else found.witness[max(0, found.length + 1 - cap.window) :]
    return int(cap.members[last].sum()) >= cap.count


def _names(rules: Sequence[_Rule]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule.name for rule in rules))
