"""The parts of the OpenAPI document that FastAPI does not derive.

Handlers parse the raw body themselves (about five times faster than FastAPI does), which hides its model from
FastAPI; and FastAPI drops nulls from examples, where ours are meaningful.
"""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.bodies.rerank import RerankRequest, RerankResponse
from service.bodies.users import ContextBody, FeedbackRequest

DECLARED: tuple[type[BaseModel], ...] = (RerankRequest, RerankResponse, FeedbackRequest, ContextBody)


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose handler parses `model` itself."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {"requestBody": {"required": True, "content": content}}


def install(app: FastAPI, front: APIRouter) -> None:
    """Document the routes in front of the application with its own, and put these schemas in as they are."""

    def whole() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=[*front.routes, *app.routes],
            )
            _, schemas = models_json_schema(
                [(model, "validation") for model in DECLARED], ref_template="#/components/schemas/{model}"
            )
            document["components"]["schemas"].update(schemas["$defs"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = whole  # type: ignore[method-assign]
