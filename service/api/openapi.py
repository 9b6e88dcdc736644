"""The parts of the OpenAPI document that FastAPI does not derive.

Handlers parse the raw body themselves (about five times faster than FastAPI does), which hides its model from
FastAPI; and FastAPI drops nulls from examples, where ours are meaningful.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from service.api.static_page import StaticPage
from service.bodies.documents import DocumentsRequest, DocumentsResponse
from service.bodies.models import ShadowBody, SharesBody
from service.bodies.rerank import RerankRequest, RerankResponse
from service.bodies.users import ContextBody, EventsRequest, FeedbackRequest

PAGE = Path(__file__).parents[1] / "reference_page"
"""Swagger UI, which shows the document."""

DECLARED: tuple[type[BaseModel], ...] = (
    *(RerankRequest, RerankResponse, DocumentsRequest, DocumentsResponse),
    *(FeedbackRequest, EventsRequest, ContextBody),
    *(SharesBody, ShadowBody),
)


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose handler parses `model` itself."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {"requestBody": {"required": True, "content": content}}


def install(app: FastAPI, front: Sequence[BaseRoute]) -> None:
    """Serve the document, of the routes in front of the application too, and a page that shows it.

    It takes tenths of a second to make and milliseconds to write, so both are done once.
    """

    @cache
    def document(root_path: str) -> bytes:
        whole = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=[*front, *app.routes],
            servers=[{"url": root_path}] if root_path else None,
        )
        _, schemas = models_json_schema(
            [(model, "validation") for model in DECLARED], ref_template="#/components/schemas/{model}"
        )
        whole["components"]["schemas"].update(schemas["$defs"])
        if app.state.service.access.open:
            _without_keys(whole)
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        return Response(document(request.scope.get("root_path", "")), media_type="application/json")

    page = StaticPage(PAGE, img_src="data:")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page.answer()

    @app.get("/docs/{name:path}", include_in_schema=False)
    async def docs_file(name: str) -> Response:
        return page.answer(name)


def _without_keys(document: dict[str, Any]) -> None:
    """Where nobody needs a key, the document asks for none."""
    document["components"].pop("securitySchemes", None)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
