"""Bytes to a body, or to what is wrong with them, in time that the length of the bytes bounds.

msgspec alone judges, and stops at the first fault. Of a short body the others are then looked for, part by
part, by the same judge. Types are strict: `"5"` and `true` are no integers, `false` is no number, and `5.0`
is 5. Of a key that occurs twice the last value counts.
"""

import ast
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

import msgspec
from pydantic import BaseModel

from service.bodies.twins import twin
from service.errors import Fault, InvalidRequestError

Parsed = TypeVar("Parsed", bound=BaseModel)

LISTED_BYTES = 32_768
"""Of longer bodies only the first fault is told."""

REQUIRED, UNKNOWN = "field required", "unknown field"
_ABOUT_A_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.S)
_WHOLE = "Expected `float` that's a multiple of 1.0"
_OF_A_FORM = re.compile(r"Expected `str` matching regex ('.*'|\".*\")", re.S)
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse(model: type[Parsed], body: bytes | bytearray) -> Parsed:
    """A body as its model's twin.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        return cast(Parsed, _decoder(model).decode(body))
    except _REFUSED as error:
        raise InvalidRequestError(_faults(model, body, error)) from None


@cache
def _decoder(model: type[BaseModel]) -> msgspec.json.Decoder[BaseModel]:
    return msgspec.json.Decoder(twin(model))


def _faults(model: type[BaseModel], body: bytes | bytearray, first: Exception) -> Iterator[Fault]:
    found = False
    if len(body) <= LISTED_BYTES:
        with suppress(ValueError, RecursionError):  # not JSON at all, or an integer without end
            read = json.loads(body, parse_float=_finite, parse_constant=_NotFinite)
            for faults in (_unreadable("", read), _misfits("", read, twin(model))):
                for fault in faults:
                    found = True
                    yield fault
                if found:
                    return
    if not found:
        yield _first_fault(str(first))


def _first_fault(told: str) -> Fault:
    """msgspec's words in the API's. It names no keys of mappings."""
    message, _, path = told.rpartition(" - at `$") if " - at `$" in told else (told, "", "")
    path = path.rstrip("`").replace("[...]", "").replace("[", ".").replace("]", "")
    if about := _ABOUT_A_FIELD.match(message):
        path = f"{path}.{about[2]}"
        message = REQUIRED if about[1] == "missing required" else UNKNOWN
    return _fault(path, message)


class _NotFinite:
    """A number that is too large, or none, in place of a float."""

    def __init__(self, _: str) -> None:
        pass


def _finite(digits: str) -> Any:
    return value if isfinite(value := float(digits)) else _NotFinite(digits)


def _unreadable(path: str, value: Any) -> Iterator[Fault]:
    """What JSON can write, in Python's own reading at least, and no body can hold."""
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            yield _fault(path, "half of a surrogate pair is no text")
    elif isinstance(value, _NotFinite):
        yield _fault(path, "expected a finite number")
    elif isinstance(value, list | dict):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _unreadable(f"{path}.{name}", part)


def _misfits(path: str, value: Any, kind: Any) -> Iterator[Fault]:
    """Why a value is not of a type: its parts at fault, if it is for its parts."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message = str(error)
    else:
        return
    found = False
    for part in _parts(path, value, kind):
        found = True
        yield part
    if not found:
        yield _fault(path, message)


def _parts(path: str, value: Any, kind: Any) -> Iterator[Fault]:
    kind = _arm(kind, value)
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(value, list) and origin is list:
        for index, one in enumerate(value):
            yield from _misfits(f"{path}.{index}", one, arguments[0])
    elif isinstance(value, dict) and origin is dict:
        for name, one in value.items():
            yield from _misfits(f"{path}.{name}", one, arguments[1])
    elif isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        for name in value:
            if name not in fields:
                yield _fault(f"{path}.{name}", UNKNOWN)
        for name, field in fields.items():
            if name in value:
                yield from _misfits(f"{path}.{name}", value[name], field.type)
            elif field.required:
                yield _fault(f"{path}.{name}", REQUIRED)


def _arm(kind: Any, value: Any) -> Any:
    """The one type in `kind` whose parts a value may have, without constraints."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, UnionType):
        return kind
    arms = [_arm(one, value) for one in get_args(kind) if one is not NoneType]
    if len(arms) > 1 and isinstance(value, dict):
        arms = [one for one in arms if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    return arms[0] if len(arms) == 1 else None


def _fault(path: str, message: str) -> Fault:
    if message == _WHOLE:
        message = "Expected a whole number"
    if form := _OF_A_FORM.fullmatch(message):  # as Python would write it, not as it is
        message = f"Expected `str` of the form {ast.literal_eval(form[1])}".replace(r"\Z", "$")
    return Fault(path.lstrip(".") or "body", message)
