"""TOML files as validated settings. A mistake is told in one line: where, and what was probably meant."""

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from bundle.errors import RerankerError, fault_in_a_line

M = TypeVar("M", bound=BaseModel)

UNKNOWN = "extra_forbidden"
"""What pydantic calls the fault of a key that there is not."""


class ConfigError(RerankerError):
    """A configuration that cannot be used; the message names file, line and key."""


def read_toml(path: Path) -> dict[str, Any]:
    """Raises: ConfigError: no such file, or not TOML."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob("*.toml")], 1)
        raise ConfigError(f"{path}: no such file{_meant(near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    except tomllib.TOMLDecodeError as error:
        told = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
        place, message = (f":{told[2]}", f"{told[1]}, column {told[3]}") if told else ("", str(error))
        raise ConfigError(f"{path}{place}: not TOML: {message}") from None


def validated(model: type[M], values: Mapping[str, Any], path: Path) -> M:
    """The settings that a file's values make. Raises: ConfigError: the first fault, and how many more."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        first = next((fault for fault in faults if fault["type"] == UNKNOWN), faults[0])  # explains others
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        loc = first["loc"]
        told = fault_in_a_line(first).replace("Extra inputs are not permitted", "unknown key")
        message = f"{told}{_suggestion(model, first)}{more}"
        raise ConfigError(f"{path}{_line(path, loc)}: {message}") from None


def _suggestion(model: type[BaseModel], fault: Mapping[str, Any]) -> str:
    loc = fault["loc"]
    if fault["type"] == UNKNOWN:
        known = _keys(model, loc[:-1])
        near = _close(str(loc[-1]), known)
        return _meant(near) if near else f"; there are {', '.join(known)}"
    if fault["type"] == "literal_error":
        return _meant(_close(str(fault["input"]), re.findall(r"'([^']+)'", fault["ctx"]["expected"])))
    return ""


def _keys(model: Any, loc: Sequence[str | int]) -> list[str]:
    """Keys of the table at a place in the settings."""
    for step in loc:
        fields = getattr(model, "model_fields", {})
        model = (
            model if isinstance(step, int) else _model_in(fields[step].annotation) if step in fields else None
        )
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The model that a field is, or holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _model_in(one)) is not None), None)


def _line(path: Path, loc: Sequence[str | int]) -> str:
    """`:line` of the fault's key, where only one line of the file has it."""
    keys = [step for step in loc if isinstance(step, str)]
    if not keys or not path.is_file():
        return ""
    lines = path.read_text("utf-8-sig").splitlines()
    found = [number for number, line in enumerate(lines, 1) if re.search(rf"\b{re.escape(keys[-1])}\b", line)]
    return f":{found[0]}" if len(found) == 1 else ""


def _close(word: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(word, list(known), 1)


def _meant(near: Sequence[str]) -> str:
    return f"; did you mean `{near[0]}`?" if near else ""


def as_toml(values: Mapping[str, Any]) -> str:
    """A TOML file of these values; None is left out. `read_toml` reads the same."""
    return "\n".join(_table(values, ())) + "\n"


def _table(values: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[str]:
    """Keys before tables: what comes after a table's head is that table's."""
    if place:
        yield f"\n[{'.'.join(map(_key, place))}]"
    for name, value in values.items():
        if not isinstance(value, Mapping) and value is not None:
            yield f"{_key(name)} = {_literal(value)}"
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _table(value, (*place, name))


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)


def _literal(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_key(name)} = {_literal(one)}" for name, one in value.items() if one is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        lines = ", ".join(map(_literal, value))
        return f"[{lines}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value if isinstance(value, (str, int, float)) else str(value), ensure_ascii=False)
