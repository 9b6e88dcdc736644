"""docs/reference is what the code says now."""

import pytest

from reference.__main__ import ROOT, pages
from reference.markdown import kind, table
from service.settings import Settings


def test_pages_are_as_the_command_writes_them() -> None:
    made = pages()
    assert set(made) == {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/reference/*")}
    for path, text in made.items():
        assert (ROOT / path).read_text() == text, "run `python -m reference`"


def test_every_setting_route_and_body_is_there() -> None:
    made = pages()
    assert made["docs/reference/settings.md"].count("| `RERANK_") == len(Settings.model_fields)
    for part in ("### POST /v1/feedback", "### ContextBody", '"recommendation_id": "5f0c', "`not_in_list`"):
        assert part in made["docs/reference/api.md"]


def test_no_kind_of_value_is_left_to_guess() -> None:
    assert "anything" not in pages()["docs/reference/settings.md"]


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer", "minimum": 0, "exclusiveMaximum": 2000}, "integer ≥ 0, < 2,000"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null"),
        ({"type": "array", "items": {"$ref": "#/a/Item"}, "minItems": 1}, "list of [Item](#item), not empty"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object of number"),
        ({"type": "number", "maximum": 2**63}, "number"),
        ({"type": "string", "minLength": 1, "maxLength": 64}, "text ≥ 1, ≤ 64 characters"),
        ({"enum": ["a", "b"], "type": "string"}, "`a`, `b`"),
        ({}, "anything"),
    ],
)
def test_a_kind_in_words(schema: dict[str, object], text: str) -> None:
    assert kind(schema) == text


def test_a_bar_does_not_end_a_cell() -> None:
    assert table(["a"], [["x|y"]]).endswith("| x\\|y |")
