"""What a request asks of its list, as constraints on slates of its items, and the lists that satisfy them.

Items of which the model knows nothing follow the slate, where the rules let them. Where they are needed, at a
pin's position or because the others alone cannot satisfy the rules, they are candidates like all others.

Legend: N items that may be shown.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bundle.features.assembly import FeatureAssembler
from constraints.planning import STATES, EffortError, Plan, in_order, plan
from constraints.rules import ONE_OF, Cap, ConflictError, Constraints, Floor, rule_of
from service.bodies.constraints import AtLeast, AtMost
from service.bodies.rerank import RerankRequest
from service.errors import Fault, InvalidRequestError
from service.serving.groups import Groups, Members
from service.serving.request_features import Ignored, Selection

AT_ONCE = 512
"""States that may be searched on the event loop."""


class RuleLimits(NamedTuple):
    """Settings of the same names: how long a list is, and how much its rules may ask."""

    max_top_n: int = 200
    max_limited_groups: int = 256
    max_constraint_states: int = STATES


class Completion(NamedTuple):
    """What follows a slate.

    Attributes:
        items: their indices in the request.
        shortened_by: the rules that left room for no more, by path in the request.
    """

    items: list[int]
    shortened_by: list[str]


@dataclass(frozen=True)
class Rules:
    """The constraints of a request, which can hold.

    Attributes:
        items: those that may be shown, by index in the request and in the caller's order.
        candidates: those of them that the model ranks; none if it knows nothing of any.
        wanted: length of the list, if the rules leave room for it.
        plan: over `items`, for lists without the model.
        own: over `candidates`, for the model.
        ignored: paths of values that nobody knows.
    """

    items: Sequence[int]
    candidates: Sequence[int]
    wanted: int
    plan: Plan
    own: Plan
    effort: int
    ignored: Ignored

    @property
    def bind(self) -> bool:
        """Whether there is more to satisfy than that some items are left out."""
        asked = self.own.constraints
        return bool(asked.pins or asked.caps or asked.floors)

    def complete(self, placed: Sequence[int]) -> Completion:
        """What follows the items that the model has placed, if it has; the whole list, if it has not. On the
        event loop, hence with little effort."""
        if not placed:
            return self._completion(self.plan, in_order(self.plan, effort=AT_ONCE))
        if len(placed) == self.plan.length:
            return self._completion(self.plan, [])
        places = {item: place for place, item in enumerate(self.items)}
        pins = dict(self.plan.constraints.pins) | {at: places[item] for at, item in enumerate(placed)}
        begun = replace(self.plan.constraints, pins=pins, pin_names=dict.fromkeys(pins, ""))
        try:
            longer = plan(begun, len(self.items), self.plan.length, AT_ONCE)
        except EffortError:  # the slate by itself satisfies them
            return Completion([], _paths(cap.name for cap in begun.caps))
        return self._completion(longer, in_order(longer)[len(placed) :])

    def _completion(self, planned: Plan, places: Iterable[int]) -> Completion:
        shortened_by = _paths(planned.shortened_by or self.plan.shortened_by)
        whole = planned.length == self.wanted
        return Completion([self.items[place] for place in places], [] if whole else shortened_by)


def constrain(
    assembler: FeatureAssembler,
    request: RerankRequest,
    selection: Selection,
    top_n: int,
    limits: RuleLimits,
    within: int | None = None,
) -> Rules:
    """The rules of a request that has some.

    Args:
        within: states that judging them may take, if fewer than the limit.

    Raises:
        InvalidRequestError: they do not fit the model, cannot hold together, or telling takes too long.
        EffortError: telling takes more than `within`.
    """
    ids = [item.id for item in request.items]
    every, excluded = range(len(ids)), _excluded(request, ids)
    items = [index for index in every if ids[index] not in excluded] if excluded else every
    effort, wanted = limits.max_constraint_states, min(top_n, len(items))
    reading = _Reading(assembler, request, selection, items, wanted, limits)
    constraints = reading.read()
    try:
        whole = plan(constraints, len(items), wanted, effort, within)
    except ConflictError as conflict:
        faults = list(reading.conflict(conflict.names))
        if excluded and _can_hold(assembler, request, selection, min(top_n, len(ids)), limits, within):
            faults.append(Fault("constraints.excluded", f"without {len(excluded)} of the items"))
        raise InvalidRequestError(faults) from None
    except EffortError:
        if within is not None:
            raise
        message = f"whether they can hold together was not decided within {effort} states"
        raise InvalidRequestError([Fault("constraints", message)], decided=False) from None
    rules = Rules(items, items, wanted, whole, whole, effort, reading.ignored)
    return rules if not selection.unrankable else _with_unrankable(rules, selection, within)


def _with_unrankable(rules: Rules, selection: Selection, within: int | None) -> Rules:
    """With the candidates that are needed."""
    rankable, pinned = set(selection.candidates), set(rules.plan.constraints.pins.values())
    if rankable.isdisjoint(rules.items):
        return replace(rules, candidates=[])
    places = [place for place, item in enumerate(rules.items) if item in rankable or place in pinned]
    own = _over(rules.plan, places, rules.effort, within)
    if own is None:
        return rules
    return replace(rules, candidates=[rules.items[place] for place in places], own=own)


def _excluded(request: RerankRequest, ids: list[str]) -> set[str]:
    assert request.constraints is not None
    return set(ids).intersection(request.constraints.excluded)


def _can_hold(
    assembler: FeatureAssembler,
    request: RerankRequest,
    selection: Selection,
    length: int,
    limits: RuleLimits,
    within: int | None,
) -> bool:
    """Whether the rules could without the exclusions. Raises: EffortError: as `constrain`."""
    items = range(len(request.items))
    try:
        asked = _Reading(assembler, request, selection, items, length, limits).read()
        plan(asked, len(items), length, limits.max_constraint_states, within)
    except (InvalidRequestError, ConflictError):
        return False
    except EffortError:
        if within is not None:
            raise
        return False
    return True


def _over(whole: Plan, places: list[int], effort: int, within: int | None) -> Plan | None:
    """The same constraints over some items only, if they do with these as long as there are any.

    Raises:
        EffortError: as `constrain`.
    """
    asked, length = whole.constraints, min(whole.length, len(places))
    if any(position >= length for position in asked.pins):
        return None
    new = {place: index for index, place in enumerate(places)}
    constraints = Constraints(
        {position: new[place] for position, place in asked.pins.items()},
        asked.pin_names,
        tuple(replace(cap, members=cap.members[places]) for cap in asked.caps),
        tuple(
            replace(floor, members=floor.members[places], top=min(floor.top, length))
            for floor in asked.floors
        ),
    )
    try:
        own = plan(constraints, len(places), length, effort, within)
    except ConflictError:
        return None
    except EffortError:
        if within is not None:
            raise
        return None
    return own if own.length == length else None


class _Reading:
    """The rules of a request as constraints over some of its items."""

    def __init__(
        self,
        assembler: FeatureAssembler,
        request: RerankRequest,
        selection: Selection,
        items: Sequence[int],
        length: int,
        limits: RuleLimits,
    ) -> None:
        assert request.constraints is not None
        self._asked, self._length, self._most = request.constraints, length, limits.max_limited_groups
        self._groups = Groups(assembler, request.items, selection.rows, items)
        self._named: dict[str, Members] = {}
        self._faults: list[Fault] = []
        self._caps: list[Cap] = []
        self._floors: list[Floor] = []
        self.ignored: Ignored = []  # paths of values that nobody knows

    def read(self) -> Constraints:
        """Rules that hold in any case are left out.

        Raises:
            InvalidRequestError
        """
        pins, pin_names = {}, {}
        for index, pin in enumerate(self._asked.pinned):
            field = f"constraints.pinned.{index}"
            pins[pin.position], pin_names[pin.position] = self._groups.places[pin.id], field
            if pin.position >= self._length:
                fault = f"expected less than {self._length}, the length of the list"
                self._faults.append(Fault(f"{field}.position", fault))
        for index, floor in enumerate(self._asked.at_least):
            field, top = f"constraints.at_least.{index}", min(floor.top or self._length, self._length)
            if floor.count > top:
                fault = f"at most {top}, the number of positions, got {floor.count}"
                self._faults.append(Fault(f"{field}.count", fault))
            members = self._members(field, floor)
            if floor.count and members is not None:
                self._floors.append(Floor(field, members, floor.count, top))
        for index, cap in enumerate(self._asked.at_most):
            self._read_cap(f"constraints.at_most.{index}", cap)
        if self._faults:
            raise InvalidRequestError(self._faults)
        return Constraints(pins, pin_names, tuple(self._caps), tuple(self._floors))

    def _read_cap(self, field: str, asked: AtMost) -> None:
        window = None if asked.window is None or asked.window >= self._length else asked.window
        binds = asked.count < (window or self._length)
        if asked.feature is None or asked.value is not None:
            members = self._members(field, asked)
            if binds and members is not None and np.count_nonzero(members) > asked.count:
                self._caps.append(Cap(field, members, asked.count, window))
            return
        try:
            values = self._groups.values(asked.feature)
        except LookupError:
            self._no_such_feature(field, asked.feature)
            return
        (binding,) = (values.counts > asked.count).nonzero()
        if not binds or not len(binding):
            return
        if len(self._caps) + len(binding) > self._most:
            message = f"more than {self._most} groups are limited, each value of a feature counted"
            self._faults.append(Fault(field, message))
            return
        prefix, rest = field + ONE_OF, (asked.count, window)
        ids, members = values.ids[binding].tolist(), self._groups.members(values, binding)
        self._caps += [Cap(f"{prefix}{value}", one, *rest) for value, one in zip(ids, members, strict=True)]

    def _members(self, field: str, rule: AtMost | AtLeast) -> Members | None:
        if (name := rule.group) is not None:
            if name not in self._named:
                self._named[name] = self._groups.named(self._asked.groups[name])
            return self._named[name]
        assert rule.feature is not None, "validated"
        try:
            members, known = self._groups.of(rule.feature, rule.value)
        except LookupError:
            self._no_such_feature(field, rule.feature)
            return None
        if not known:
            self.ignored.append((f"{field}.value", "unknown_value"))
        return members

    def _no_such_feature(self, field: str, feature: str) -> None:
        known = ", ".join(self._groups.fields)
        message = f"{feature!r} groups no items; the model has {known}, and the items bring none of that name"
        self._faults.append(Fault(f"{field}.feature", message))

    def conflict(self, names: Sequence[str]) -> Iterator[Fault]:
        """What is wrong with rules that cannot hold together."""
        paths = _paths(names)
        for path in paths:
            others = " and ".join(other for other in paths if other != path)
            message = f"cannot hold together with {others}" if others else "cannot hold"
            floor = next((floor for floor in self._floors if floor.name == path), None)
            if floor is not None:
                there = np.count_nonzero(floor.members)
                message += f": at least {floor.count} in the first {floor.top}, of {there} items"
            values = [name.partition(ONE_OF)[2] for name in names if name.startswith(path + ONE_OF)]
            if values:
                message += f": {', '.join(map(repr, self._texts(path, values)))}"
            yield Fault(path, message)

    def _texts(self, path: str, values: Sequence[str]) -> list[str]:
        feature = self._asked.at_most[int(path.rpartition(".")[2])].feature
        assert feature is not None
        return [self._groups.text(feature, int(value)) for value in values]


def _paths(names: Iterable[str]) -> list[str]:
    """Of rules, each once."""
    return list(dict.fromkeys(map(rule_of, names)))
