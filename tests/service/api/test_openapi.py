"""The OpenAPI document is whole: every body, every error, and examples that are what they claim."""

from typing import Any

import pytest
from pydantic import BaseModel
from rerank_client import Client

from service.bodies import errors, models, rerank, users

ROUTES = {
    ("/v1/rerank", "post"): {"200", "413", "422", "429", "503", "504"},
    ("/v1/models/{model}/rerank", "post"): {"200", "404", "413", "422", "429", "503", "504"},
    ("/v1/feedback", "post"): {"202", "404", "413", "422", "503"},
    ("/v1/users/{user_id}/context", "put"): {"204", "413", "422", "503"},
    ("/v1/users/{user_id}/context", "get"): {"200", "404", "422", "503"},
    ("/v1/users/{user_id}/context", "delete"): {"204", "422", "503"},
    ("/v1/models", "get"): {"200"},
    ("/livez", "get"): {"200"},
    ("/readyz", "get"): {"200", "503"},
    ("/metrics", "get"): {"200"},
}


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
    assert declared == ROUTES
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


async def test_errors_have_the_one_shape(client: Client) -> None:
    for operations in (await document(client))["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400" and "readyz" not in operation["operationId"]:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema["$ref"].endswith("/ErrorResponse"), (operation["operationId"], status)


@pytest.mark.parametrize(
    "body",
    [
        *(rerank.RerankRequest, rerank.RerankResponse, models.ModelList, errors.ErrorResponse),
        *(users.ContextBody, users.FeedbackRequest, users.FeedbackResponse),
    ],
)
async def test_examples_are_valid(client: Client, body: type[BaseModel]) -> None:
    schema = (await document(client))["components"]["schemas"][body.__name__]
    assert schema["examples"]
    for example in schema["examples"]:
        body.model_validate(example)


async def test_the_request_example_is_answered(client: Client) -> None:
    for example in (await document(client))["components"]["schemas"]["RerankRequest"]["examples"]:
        response = await client.post("/v1/rerank", json=example)
        assert response.status_code == 200
        assert rerank.RerankResponse.model_validate_json(response.content)
