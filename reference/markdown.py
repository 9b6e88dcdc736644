"""What the pages share: tables, and what kind of value a JSON schema asks for."""

from collections.abc import Iterable, Sequence
from typing import Any

from evidence import pages

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
LENGTHS = {"minLength": "≥", "maxLength": "≤", "minItems": "≥", "maxItems": "≤"}
FARTHEST = 2**53 - 1
NAMES = {"string": "text", "boolean": "true or false"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return pages.table(head, [[cell.replace("|", "\\|") for cell in row] for row in rows])


def kind(schema: dict[str, Any]) -> str:
    """In words. References are links to the heading of what they refer to."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema and "type" not in schema:
            return " or ".join(dict.fromkeys(map(kind, schema[several])))
    if "allOf" in schema:
        return " and ".join(map(kind, schema["allOf"]))
    if schema.get("type") == "array":
        items = schema.get("items") or {"anyOf": [one["items"] for one in schema.get("anyOf", ())]}
        return f"list of {kind(items)}{_bounded(schema, LENGTHS, ' items')}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {kind(schema['additionalProperties'])}"
    named: str = schema.get("type", "anything")
    if schema.get("format") in ("path", "binary"):
        return "path"
    return NAMES.get(named, named) + _bounded(schema, BOUNDS) + _bounded(schema, LENGTHS, " characters")


def _bounded(schema: dict[str, Any], names: dict[str, str], unit: str = "") -> str:
    """Bounds as far out as a number can be are left out."""
    if names is LENGTHS and [schema[name] for name in LENGTHS if name in schema] == [1]:
        return ", not empty"
    bounds = [
        f"{sign} {_number(schema[name])}"
        for name, sign in names.items()
        if name in schema and abs(schema[name]) < FARTHEST
    ]
    return f" {', '.join(bounds)}{unit}" if bounds else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"
