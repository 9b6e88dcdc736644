"""docs/reference/api.md: every route and body, from the OpenAPI document of a service with keys."""

import asyncio
import json
from typing import Any

from httpx import ASGITransport, AsyncClient

from reference.markdown import kind, table
from service.app import create_app
from service.settings import Settings

HEAD = """# API

Made from the service's OpenAPI document, which it serves at `/openapi.json`, by `python -m reference`.
[Serving](../serving.md) says what can be relied on.

"""
KEYS = '[reference]\nsha256 = ["' + "0" * 64 + '"]\nscopes = ["rerank"]\n'
"""Nobody's: where nobody needs a key, the document asks for none."""


def document() -> dict[str, Any]:
    """The OpenAPI document. No bundle is opened for it."""

    async def ask() -> dict[str, Any]:
        app = create_app(Settings.model_validate({"bundle": "none", "api_keys": KEYS}))
        async with AsyncClient(transport=ASGITransport(app), base_url="http://reference") as client:
            found: dict[str, Any] = (await client.get("/openapi.json")).json()
            return found

    return asyncio.run(ask())


def page() -> str:
    whole = document()
    routes = [
        _route(path, method, operation)
        for path, operations in whole["paths"].items()
        for method, operation in operations.items()
    ]
    schemas = [_schema(name, schema) for name, schema in sorted(whole["components"]["schemas"].items())]
    return f"{HEAD}## Routes\n\n{''.join(routes)}## Bodies\n\n{''.join(schemas)}".rstrip() + "\n"


def _route(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [f"### {method.upper()} {path}", operation.get("description") or operation["summary"]]
    if parameters := operation.get("parameters"):
        rows = [
            [f"`{one['name']}`", one["in"], kind(one["schema"]), one.get("description", "")]
            for one in parameters
        ]
        parts.append(table(["parameter", "in", "value", "what it is"], rows))
    if "requestBody" in operation:
        parts.append(f"Body: {_content(operation['requestBody'])}.")
    rows = [
        [code, "" if code.startswith("2") else answer["description"], _content(answer)]
        for code, answer in sorted(operation["responses"].items())
    ]
    parts.append(table(["answer", "when", "body"], rows))
    return "\n\n".join(parts) + "\n\n"


def _content(of: dict[str, Any]) -> str:
    kinds = {f"{_kind(content)}" for content in of.get("content", {}).values()}
    return " or ".join(sorted(kinds))


def _kind(content: dict[str, Any]) -> str:
    return kind(content["schema"]) if content.get("schema") else "text"


def _schema(name: str, schema: dict[str, Any]) -> str:
    parts = [f"### {name}"]
    if schema.get("description"):
        parts.append(schema["description"])
    if properties := schema.get("properties"):
        required = schema.get("required", ())
        rows = [
            [f"`{field}`", kind(of), _default(of, field in required), _line(of)]
            for field, of in properties.items()
        ]
        parts.append(table(["field", "value", "default", "what it is"], rows))
    else:
        parts.append(kind(schema))
    for example in schema.get("examples", ()):
        parts.append(f"```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```")
    return "\n\n".join(parts) + "\n\n"


def _default(schema: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    value = schema.get("default")
    return "" if value is None else f"`{json.dumps(value)}`"


def _line(schema: dict[str, Any]) -> str:
    return " ".join(schema.get("description", "").split())
