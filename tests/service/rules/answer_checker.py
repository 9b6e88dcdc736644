"""What docs/serving.md, "Rules for the list", promises of an answer, checked from that page alone.

Knows requests and answers as JSON, and the raw records of the catalogue. Shares no code with the service.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]


class Rule(NamedTuple):
    """One group, and how many of it there may be, at least or at most.

    Attributes:
        path: in the request.
        members: ids of items.
        span: a window, or a top; None is the whole list.
    """

    path: str
    at_most: bool
    members: frozenset[str]
    count: int
    span: int | None


class Asked(NamedTuple):
    """What is asked of a list, by ids of items."""

    shown: list[str]
    wanted: int
    pins: dict[int, str]
    pin_paths: dict[int, str]
    rules: list[Rule]

    def only(self, paths: set[str]) -> "Asked":
        pins = {at: item for at, item in self.pins.items() if self.pin_paths[at] in paths}
        return self._replace(pins=pins, rules=[rule for rule in self.rules if rule.path in paths])


class Shop:
    """Checks answers about a catalogue.

    Attributes:
        catalogue: raw records by id; of the features in `grouping` all values are known to the model.
    """

    def __init__(self, catalogue: Mapping[str, Json], grouping: Sequence[str], slate_length: int) -> None:
        self._catalogue, self._grouping, self._slate_length = catalogue, grouping, slate_length
        self._known = {
            feature: {text(value) for record in catalogue.values() for value in listed(record[feature])}
            for feature in grouping
        }

    def asked(self, request: Json) -> Asked:
        constraints = request.get("constraints") or {}
        excluded = set(constraints.get("excluded", ()))
        items = [item for item in request["items"] if item["id"] not in excluded]
        shown = [item["id"] for item in items]
        wanted = min(request.get("top_n") or self._slate_length, len(shown))
        pinned = list(enumerate(constraints.get("pinned", ())))
        rules: list[Rule] = []
        for kind, span in (("at_most", "window"), ("at_least", "top")):
            for index, rule in enumerate(constraints.get(kind, ())):
                rest = rule["count"], rule.get(span)
                for members in self._groups(rule, constraints, items):
                    rules.append(Rule(f"constraints.{kind}.{index}", kind == "at_most", members, *rest))
        return Asked(
            shown,
            wanted,
            {pin["position"]: pin["id"] for _, pin in pinned},
            {pin["position"]: f"constraints.pinned.{index}" for index, pin in pinned},
            rules,
        )

    def values(self, item: Json, feature: str) -> set[str]:
        """Of an item, as texts."""
        sent = {text(value) for value in listed((item.get("features") or {}).get(feature))}
        if feature not in self._grouping:
            return sent
        known = self._known[feature]
        own = {text(value) for value in listed(self._catalogue.get(item["id"], {}).get(feature))}
        return sent if sent & known else own | sent

    def _groups(self, rule: Json, constraints: Json, items: list[Json]) -> Iterator[frozenset[str]]:
        if (group := rule.get("group")) is not None:
            yield frozenset(constraints["groups"][group])
            return
        values = {item["id"]: self.values(item, rule["feature"]) for item in items}
        wanted = rule.get("value")
        every = {text(wanted)} if wanted is not None else set().union(*values.values()) if values else set()
        for value in every:
            yield frozenset(item for item, of_item in values.items() if value in of_item)

    def faults(self, request: Json, answer: Json, thorough: bool) -> Iterator[str]:
        """What an answer of 200 breaks.

        Args:
            thorough: tries all lists, to tell whether a shortened one had to be, and that a fallback is the
                caller's order as far as the rules let it.
        """
        asked, results = self.asked(request), answer["results"]
        ids = [result["id"] for result in results]
        if len(set(ids)) < len(ids):
            yield "an item occurs twice"
        if not set(ids) <= set(asked.shown):
            yield "an item was excluded, or never sent"
        if any(request["items"][result["index"]]["id"] != result["id"] for result in results):
            yield "an index is another item's"
        shortened_by = answer.get("shortened_by") or []
        top = ids[: asked.wanted]
        if not shortened_by:
            expected = len(asked.shown) if request.get("return_all") else asked.wanted
            if len(ids) != expected:
                yield f"{len(ids)} items, expected {expected}"
        elif len(ids) >= asked.wanted:
            yield "it is not shorter, and said to be"
        if not {*shortened_by} <= {rule.path for rule in asked.rules if rule.at_most}:
            yield f"shortened by {shortened_by}"
        yield from broken(asked, top)
        if answer["fallback"] is None:
            yield from self._written_faults(asked, results)
        if thorough and (shortened_by or answer["fallback"]):
            best = first_list(asked)
            if best is None:
                yield "no list can satisfy the rules"
            elif answer["fallback"] is not None and top != best:
                yield f"a fallback of {top}, expected {best}"
            elif len(top) != len(best) and not self._unknown(asked):
                yield f"{len(top)} items, where there was room for {len(best)}"

    def _written_faults(self, asked: Asked, results: list[Json]) -> Iterator[str]:
        """Of a list that the model wrote. Items that it knows nothing of may follow."""
        chances = {result["id"]: result["propensity"] for result in results[: asked.wanted]}
        for at, item in asked.pins.items():
            if chances.get(item) != 1.0:
                yield f"{item} is pinned at {at}, with a propensity of {chances.get(item)}"
        if any(chances[item] is None for item in chances if item in self._catalogue):
            yield "an item that the model knows was placed by others"

    def _unknown(self, asked: Asked) -> bool:
        """Whether items are unknown, which follow the model's list as well as they can."""
        return any(item not in self._catalogue for item in asked.shown)

    def refusal_faults(self, request: Json, fields: list[Json], thorough: bool) -> Iterator[str]:
        """What a refusal for rules that cannot hold has wrong.

        Args:
            thorough: tries all lists.
        """
        strays = [field["field"] for field in fields if not field["field"].startswith("constraints.")]
        if strays or not fields:
            yield f"refused for {strays}"
        if not thorough:
            return
        asked = self.asked(request)
        if first_list(asked) is not None:
            yield "a list could have satisfied the rules"
            return
        paths = {field["field"] for field in fields}
        alone = {path for path in paths if path.count(".") > 2}  # such as `constraints.at_least.0.count`
        for path in alone:
            if first_list(asked.only({path.rpartition(".")[0]})) is not None:
                yield f"{path} can hold by itself"
        together = paths - alone - {"constraints.excluded"}
        if "constraints.excluded" not in paths and together and first_list(asked.only(together)) is not None:
            yield f"{sorted(together)} do not conflict"
        each = [rule.path for rule in asked.rules if rule.path in together]
        if len(set(each)) == len(each):  # no rule of theirs is one for each value
            for path in together:
                if len(together) > 1 and first_list(asked.only(together - {path})) is None:
                    yield f"{sorted(together)} conflict without {path}"


def listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def text(value: Any) -> str:
    """As JSON writes it, and 5.0 as 5."""
    if isinstance(value, str):
        return value
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def broken(asked: Asked, top: list[str]) -> Iterator[str]:
    """Rules that a list does not satisfy."""
    for at, item in asked.pins.items():
        if at >= len(top) or top[at] != item:
            yield f"{item} is not at {at}"
    for rule in asked.rules:
        inside = [item in rule.members for item in top]
        if rule.at_most:
            span = rule.span or len(top)
            if any(sum(inside[at : at + span]) > rule.count for at in range(len(top))):
                yield f"{rule.path}: too many"
        elif sum(inside[: rule.span]) < rule.count:
            yield f"{rule.path}: too few"


def first_list(asked: Asked) -> list[str] | None:
    """The longest list that satisfies the rules, and of these the first in the caller's order; None if there
    is none. Tries them all."""
    for length in range(asked.wanted, -1, -1):
        found = _first_of(asked, length, [])
        if found is not None:
            return found
    return None


def _first_of(asked: Asked, length: int, begun: list[str]) -> list[str] | None:
    if len(begun) == length:
        return begun if not any(broken(asked, begun)) else None
    pinned = asked.pins.get(len(begun))
    for item in asked.shown if pinned is None else [pinned]:
        if item in begun:
            continue
        longer = [*begun, item]
        if not any(fault.endswith("too many") for fault in broken(asked, longer)):
            found = _first_of(asked, length, longer)
            if found is not None:
                return found
    return None
