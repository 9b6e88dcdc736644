"""The rerank routes, the hot path: read and check a body, have it re-ranked, answer.

`documents` does so in the words of other APIs.
"""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Request, Response

from service.api.access import ACCESS_ERRORS, caller_of, needs
from service.api.answers import BODY_ERRORS, declared
from service.api.decoding import parse
from service.api.front import FrontRoute
from service.api.openapi import request_body
from service.api.request import ARRIVED, identify, read_body, service_of
from service.api.validation import check_rerank
from service.bodies.rerank import RerankRequest, RerankResponse
from service.errors import (
    DeadlineExceededError,
    Fault,
    InvalidRequestError,
    ModelError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)

RERANK, RERANK_WITH = "/v1/rerank", "/v1/models/{model}/rerank"

ERRORS = (
    *ACCESS_ERRORS,
    *BODY_ERRORS,
    NotFoundError,
    OverloadedError,
    UnavailableError,
    ModelError,
    DeadlineExceededError,
)

router = APIRouter(tags=["rerank"], route_class=FrontRoute, dependencies=[needs("rerank")])


@router.post(
    RERANK,
    summary="Re-rank a list",
    response_model=RerankResponse,
    responses=declared(*ERRORS),
    openapi_extra=request_body(RerankRequest),
)
async def rerank(request: Request) -> Response:
    """Re-rank a list of candidates for a user.

    A missed deadline, overload or a fault of the model is answered with 200, the caller's order and
    `fallback`; with `strict`, with 504, 429 or 503. A context store that is down makes the user anonymous.
    """
    return await _rerank(request, None)


@router.post(
    RERANK_WITH,
    summary="Re-rank a list with a named model",
    response_model=RerankResponse,
    responses=declared(*ERRORS),
    openapi_extra=request_body(RerankRequest),
)
async def rerank_with(request: Request, model: Annotated[str, Path(examples=["eglr"])]) -> Response:
    """As `/v1/rerank`, with the model of this name, which `model` may repeat."""
    return await _rerank(request, model)


async def _rerank(request: Request, model: str | None) -> Response:
    service, arrived = service_of(request), arrival_of(request)
    content = await read_body(request)
    with service.metrics.stage("parse"):
        body = parse(RerankRequest, content)
        del content  # which waits for the model no longer than its parsed form
        identify(request, body)
        check_rerank(body, service.settings)
    if model is not None and body.model not in (None, model):
        raise InvalidRequestError([Fault("model", f"the path names {model!r}")])
    answer = await ranked(request, body, model or body.model, arrived)
    return Response(msgspec.json.encode(answer), media_type="application/json")


def arrival_of(request: Request) -> float:
    """When a request came, by the reranker's clock. To be asked before its body is read."""
    arrived: float | None = request.scope["state"].get(ARRIVED)
    return arrived or service_of(request).reranker.arrival()


async def ranked(request: Request, body: RerankRequest, model: str | None, arrived: float) -> RerankResponse:
    """The answer to a body that was checked, by the model of this name; the default one for None."""
    service, request_id = service_of(request), request.scope["state"]["request_id"]
    sticky = request_id if body.user_id is None else body.user_id
    # Not before: a body that is half sent would hold the model.
    with service.models.route(model, body.model_version, sticky) as served:
        caller = caller_of(request)
        return await service.reranker.rerank(served, body, request_id, arrived, caller.name, caller.charge)
