"""The OpenAPI document is whole: every body, every error, and examples that are what they claim."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from rerank_client import Client

from bundle.manifest import BundleError
from engine.generation import Stop
from service.api.answers import ANSWERS
from service.bodies import documents, errors, models, rerank, users
from service.errors import (
    BodyTooLargeError,
    BusyError,
    ChangeTimeoutError,
    ConflictError,
    DeadlineExceededError,
    ForbiddenError,
    InvalidRequestError,
    ModelError,
    NotFoundError,
    OverloadedError,
    RateLimitedError,
    RequestTimeoutError,
    StoreUnavailableError,
    UnauthenticatedError,
    UnavailableError,
    UnknownRecommendationError,
    UnsupportedMediaError,
)

Errors = tuple[type[Exception], ...]

ACCESS: Errors = (UnauthenticatedError, ForbiddenError, RateLimitedError)
READING: Errors = (BodyTooLargeError, UnsupportedMediaError, RequestTimeoutError, BusyError)
BODY: Errors = (*ACCESS, *READING, InvalidRequestError)
METADATA: Errors = (*ACCESS, NotFoundError, InvalidRequestError)
CHANGE: Errors = (*ACCESS, NotFoundError, ConflictError, BundleError, ChangeTimeoutError)
RERANK: Errors = (*BODY, NotFoundError, OverloadedError, UnavailableError, ModelError, DeadlineExceededError)
ROUTES: dict[tuple[str, str], tuple[int, Errors]] = {
    ("/v1/rerank", "post"): (200, RERANK),
    ("/v1/models/{model}/rerank", "post"): (200, RERANK),
    ("/v2/rerank", "post"): (200, RERANK),
    ("/v1/feedback", "post"): (202, (UnknownRecommendationError, *BODY, StoreUnavailableError)),
    ("/v1/users/{user_id}/events", "post"): (202, (*BODY, StoreUnavailableError)),
    ("/v1/users/{user_id}/context", "put"): (204, (*BODY, UnavailableError, StoreUnavailableError)),
    ("/v1/users/{user_id}/context", "get"): (
        200,
        (*ACCESS, NotFoundError, InvalidRequestError, StoreUnavailableError),
    ),
    ("/v1/users/{user_id}/context", "delete"): (204, (*ACCESS, InvalidRequestError, StoreUnavailableError)),
    ("/v1/models", "get"): (200, ACCESS),
    ("/v1/models/{name}/versions/{version}:load", "post"): (200, CHANGE),
    ("/v1/models/{name}/versions/{version}:unload", "post"): (200, CHANGE),
    ("/v1/models/{name}/shares", "put"): (200, (*CHANGE, *BODY)),
    ("/v1/models/{name}/shadow", "put"): (200, (*CHANGE, *BODY)),
    ("/v1/models/{name}/shadow", "delete"): (200, CHANGE),
    ("/v1/models/{name}:default", "post"): (200, CHANGE),
    ("/v1/models/{name}:rollback", "post"): (200, CHANGE),
    ("/v1/models:reload", "post"): (200, CHANGE),
    ("/v2", "get"): (200, ACCESS),
    ("/v2/models/{name}", "get"): (200, METADATA),
    ("/v2/models/{name}/versions/{version}", "get"): (200, METADATA),
    ("/v2/models/{name}/ready", "get"): (200, (*METADATA, UnavailableError)),
    ("/v2/models/{name}/versions/{version}/ready", "get"): (200, (*METADATA, UnavailableError)),
    ("/v2/health/live", "get"): (200, (UnavailableError,)),
    ("/v2/health/ready", "get"): (200, (UnavailableError,)),
    ("/livez", "get"): (200, (UnavailableError,)),
    ("/readyz", "get"): (200, (UnavailableError,)),
    ("/metrics", "get"): (200, ACCESS),
}
"""Each route with its status of success and the errors it may end in."""


async def document(client: Client) -> Any:
    return (await client.get("/openapi.json")).json()


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        here = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return here.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


async def test_every_route_and_status_is_there(client: Client) -> None:
    paths = (await document(client))["paths"]
    declared = {
        (path, method): set(operation["responses"])
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    assert declared == {
        route: {str(success), *(str(ANSWERS[error].status) for error in ending)}
        for route, (success, ending) in ROUTES.items()
    }
    told = {"200", "401", "403", "404", "408", "413", "415", "422", "429", "503", "504"}
    assert declared["/v1/rerank", "post"] == told
    for operations in paths.values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]


async def test_every_reference_leads_somewhere(client: Client) -> None:
    whole = await document(client)
    found = references(whole)
    assert {"#/components/schemas/RerankRequest", "#/components/schemas/ErrorResponse"} <= found
    for reference in found:
        node = whole
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


async def test_errors_have_the_one_shape_and_say_what_they_mean(client: Client) -> None:
    paths = (await document(client))["paths"]
    for (path, method), (_, ending) in ROUTES.items():
        for error in ending:
            if error is UnavailableError and path.endswith(("/livez", "/readyz", "/live", "/ready")):
                continue  # health answers 503 with its own body
            response = paths[path][method]["responses"][str(ANSWERS[error].status)]
            schema = response["content"]["application/json"]["schema"]
            shape = "DocumentsErrorResponse" if path == "/v2/rerank" else "ErrorResponse"
            assert schema["$ref"].endswith(f"/{shape}"), (path, error)
            assert ANSWERS[error].meaning in response["description"]
    overloaded = paths["/v1/rerank"]["post"]["responses"]["429"]
    assert overloaded["headers"]["Retry-After"]["schema"]["type"] == "integer"


async def test_every_parameter_of_a_path_is_there(client: Client) -> None:
    for path, operations in (await document(client))["paths"].items():
        for operation in operations.values():
            named = [
                p["name"] for p in operation.get("parameters", ()) if p["in"] == "path" and p["required"]
            ]
            assert named == re.findall(r"{(\w+)}", path)


async def test_every_reason_to_stop_reasoning_is_explained(client: Client) -> None:
    schemas = (await document(client))["components"]["schemas"]
    stop = schemas["Reasoning"]["properties"]["stop"]
    assert stop["enum"] == list(get_args(Stop))
    assert all(f"`{reason}`" in stop["description"] for reason in stop["enum"])


@pytest.mark.parametrize(
    "body",
    [
        *(rerank.RerankRequest, rerank.RerankResponse, models.ModelList, errors.ErrorResponse),
        *(documents.DocumentsRequest, documents.DocumentsResponse, errors.DocumentsErrorResponse),
        *(users.ContextBody, users.FeedbackRequest, users.FeedbackResponse),
        *(users.EventsRequest, users.EventsResponse),
    ],
)
async def test_examples_are_valid(client: Client, body: type[BaseModel]) -> None:
    schema = (await document(client))["components"]["schemas"][body.__name__]
    assert schema["examples"]
    for example in schema["examples"]:
        body.model_validate(example)


async def test_the_request_example_is_answered(client: Client) -> None:
    schemas = (await document(client))["components"]["schemas"]
    for path, asked, answer in (
        ("/v1/rerank", rerank.RerankRequest, rerank.RerankResponse),
        ("/v2/rerank", documents.DocumentsRequest, documents.DocumentsResponse),
    ):
        for example in schemas[asked.__name__]["examples"]:
            response = await client.post(path, json=example)
            assert response.status_code == 200
            assert answer.model_validate_json(response.content)


async def test_types_for_typescript_are_of_this_document(client: Client) -> None:
    document = (await client.get("/openapi.json")).content
    made = (Path(__file__).parents[3] / "client/typescript/eglr.d.ts").read_text().partition("\n")[0]
    assert sha256(document).hexdigest() in made, "make client-types"
