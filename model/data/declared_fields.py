"""Raw records of a log held against the fields that are declared: a value of another kind is a finding.

The value is then left out of the record, as if it had not been there. Dates and unix times in any unit become
unix seconds. Knows nothing of events.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from bundle.features.schema import AGE_KINDS, NUMERIC_KINDS, FeatureSchema, FieldSpec, Scope
from bundle.timestamps import UNITS, read_time, unit_of
from model.data.findings import Effect, Findings

SEPARATORS = (",", ";", "|")
"""Between values that somebody wrote into one text."""


class DeclaredFields:
    """Checks the records of a log, line by line, and counts what is wrong with each field."""

    def __init__(self, schema: FeatureSchema | None, found: Findings) -> None:
        fields = schema.fields if schema else ()
        self._found = found
        self._of: dict[Scope, list[FieldSpec]] = defaultdict(list)
        for field in fields:
            self._of[field.scope].append(field)
        self._units: defaultdict[tuple[Scope, str], Counter[str]] = defaultdict(Counter)
        self._first: dict[tuple[Scope, str], str] = {}
        self._per_second: defaultdict[Scope, dict[str, float]] = defaultdict(dict)

    def checked(self, scope: Scope, record: dict[str, Any], where: str) -> dict[str, Any]:
        """The record without values of another kind than declared; numbers that are not finite count as
        missing everywhere."""
        for name in [name for name, value in record.items() if is_number(value) and not is_finite(value)]:
            message = f"`{name}` is {described(record.pop(name))}, which counts as missing"
            self._found.add("number that is not finite", Effect.READ, "", where, message, name)
        for field in self._of[scope]:
            value = record.get(field.name)
            if value is None:
                continue
            of = f"values of `{field.name}`"
            self._found.totals[of] += 1
            try:
                record[field.name] = self._value(field, value, where)
            except ValueError as error:
                del record[field.name]
                message = f"`{field.name}`: {error}"
                self._found.add("value of another kind", Effect.LEFT_OUT, of, where, message, field.name)
        return record

    def settle_ages(self, scope: Scope) -> None:
        """Tell the unit of each age, once all records of the scope have been checked: the one that most of
        its values tell."""
        for field in self._of[scope]:
            if counts := self._units[scope, field.name]:
                unit = counts.most_common(1)[0][0]
                self._say_unit(field, unit, counts)
                if (per_second := UNITS.get(unit, 1.0)) != 1.0:
                    self._per_second[scope][field.name] = per_second

    def in_seconds(self, scope: Scope, records: Iterable[MutableMapping[str, Any]]) -> None:
        """Make unix seconds of the ages in records that have been checked, once their units are settled."""
        scaled = self._per_second[scope]
        for record in records if scaled else ():
            for name, per_second in scaled.items():
                if record.get(name) is not None:
                    record[name] /= per_second

    def _say_unit(self, field: FieldSpec, unit: str, counts: Counter[str]) -> None:
        where, about = self._first[field.scope, field.name], f"{field.scope}.{field.name}"
        if unit != "seconds":
            message = f"`{field.name}` is in {unit}"
            self._found.add("unit of ages", Effect.READ, "", where, message, about, counts[unit])
        if other := counts.total() - counts[unit]:
            others = " and ".join(sorted(counts.keys() - {unit}))
            message = f"`{field.name}` is in {unit}, and some of it in {others}"
            of = f"values of `{field.name}`"
            self._found.add("ages in two units", Effect.DOUBTFUL, of, where, message, about, other)

    def _value(self, field: FieldSpec, value: Any, where: str) -> Any:
        unit = None
        if field.kind in AGE_KINDS and isinstance(value, str):
            value, unit, _ = read_time(value)
        if field.kind == "multivalued":
            self._look_at_list(field, value, where)
        if fault := _FAULTS[field.kind](field, value):
            raise ValueError(fault)
        if field.kind in AGE_KINDS:
            self._units[field.scope, field.name][unit or unit_of(value)] += 1
            self._first.setdefault((field.scope, field.name), where)
        return value

    def _look_at_list(self, field: FieldSpec, value: Any, where: str) -> None:
        of = f"values of `{field.name}`"
        if isinstance(value, str) and (between := separator(value)):
            message = (
                f'`{field.name}`: one text, "{value[:40]}", where a list is meant; write it as a list, or '
                f"declare the field categorical (`{between}` between values)"
            )
            self._found.add("list in a text", Effect.DOUBTFUL, of, where, message, field.name)
        elif isinstance(value, list) and len(value) > field.max_values:
            message = (
                f"`{field.name}`: {len(value)} values, the first {field.max_values} are read (max_values)"
            )
            self._found.add("long list", Effect.READ, of, where, message, field.name)


def separator(text: str) -> str | None:
    """What may stand between values in this text, if anything."""
    return next((mark for mark in SEPARATORS if mark in text), None)


def described(value: Any) -> str:
    """A value in a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the text "{value[:40]}"'
    if isinstance(value, (int, float)):
        return f"the number {value:.6g}" if is_finite(value) else "a number that is not finite"
    return f"a list of {len(value)}" if isinstance(value, list) else "an object"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value: float) -> bool:
    """Whether it is a float, too."""
    try:
        return math.isfinite(value)
    except OverflowError:  # of an integer
        return False


def _number_fault(field: FieldSpec, value: Any) -> str | None:
    if is_number(value):
        return None
    hint = ""
    if isinstance(value, str):
        try:
            float(value)
            hint = "; without quotes it is one"
        except ValueError:
            hint = "; words are kind `categorical`, a text's length is `text_length`"
    return f"expected a number ({field.kind}), got {described(value)}{hint}"


def _text_fault(field: FieldSpec, value: Any) -> str | None:
    return None if isinstance(value, str) else f"expected a text ({field.kind}), got {described(value)}"


def _token_fault(field: FieldSpec, value: Any) -> str | None:
    if isinstance(value, list):
        return f"expected one value ({field.kind}), got {described(value)}; declare the field multivalued"
    return f"expected one value ({field.kind}), got an object" if isinstance(value, Mapping) else None


def _tokens_fault(field: FieldSpec, value: Any) -> str | None:
    values = value if isinstance(value, list) else [value]
    wrong = next((one for one in values if not isinstance(one, (str, int, float))), "")
    return (
        f"expected a list of words or numbers ({field.kind}), got {described(wrong)}" if wrong != "" else None
    )


def _vector_fault(field: FieldSpec, value: Any) -> str | None:
    if not isinstance(value, list) or len(value) != field.size:
        return f"expected {field.size} numbers (vector), got {described(value)}"
    wrong = next((one for one in value if not is_number(one) or not is_finite(one)), None)
    return None if wrong is None else f"expected {field.size} numbers (vector), got {described(wrong)} in it"


_FAULTS: dict[str, Callable[[FieldSpec, Any], str | None]] = {
    **dict.fromkeys(NUMERIC_KINDS, _number_fault),
    "text_length": _text_fault,
    "categorical": _token_fault,
    "multivalued": _tokens_fault,
    "vector": _vector_fault,
}
