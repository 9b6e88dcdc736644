"""A small log without a fault, for tests that add one to it."""

import json
from pathlib import Path
from typing import Any

from bundle.features.schema import FeatureSchema

ITEMS, LISTS, PEOPLE = 40, 60, 30
START_MS = 1_636_993_862_000
LINES = ITEMS + 2 * LISTS
SCHEMA: dict[str, Any] = {
    "fields": [
        {"name": "price", "kind": "numeric"},
        {"name": "maker", "kind": "categorical"},
        {"name": "genres", "kind": "multivalued"},
        {"name": "title", "kind": "text_length"},
        {"name": "released", "kind": "age"},
        {"name": "look", "kind": "vector", "size": 2},
        {"name": "device", "kind": "categorical", "scope": "context"},
    ]
}


def fields(**values: Any) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def item(number: int | str, **values: Any) -> dict[str, Any]:
    """One with all that is declared, but for what is said of it."""
    own = {
        "price": 1.5,
        "maker": "a",
        "genres": ["x", "y"],
        "title": "A title",
        "released": 1_500_000_000,
        "look": [0.5, 0.25],
    }
    return {"event": "item", "item": f"i{number}", "fields": fields(**{**own, **values})}


def ranking(name: str, **changes: Any) -> dict[str, Any]:
    event = {
        "event": "ranking",
        "id": name,
        "user": "u0",
        "timestamp": START_MS + 10_000_000,
        "items": [{"id": "i0"}, {"id": "i1"}, {"id": "i2"}],
        "fields": fields(device="ios"),
    }
    return {key: value for key, value in {**event, **changes}.items() if value is not ...}


def click(name: str, item_id: Any = "i1", **changes: Any) -> dict[str, Any]:
    return {"event": "interaction", "ranking": name, "item": item_id, "type": "click", **changes}


def clean() -> list[dict[str, Any]]:
    """Items in lines 1 to 40, then each list and the click on its second item; each person has two lists."""
    events = [item(number) for number in range(ITEMS)]
    for number in range(LISTS):
        shown = [{"id": f"i{(number + place) % ITEMS}"} for place in range(5)]
        at = START_MS + 60_000 * number
        events.append(ranking(f"r{number}", user=f"u{number % PEOPLE}", timestamp=at, items=shown))
        events.append(click(f"r{number}", shown[1]["id"], timestamp=at + 5_000))
    return events


def text(events: list[Any]) -> str:
    """As lines; what is a text already is a line by itself."""
    return "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in events)


def write(path: Path, events: list[Any]) -> Path:
    path.write_text(text(events))
    return path


def schema(**changes: Any) -> FeatureSchema:
    return FeatureSchema.model_validate({**SCHEMA, **changes})
