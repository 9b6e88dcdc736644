"""`/v2/rerank`: a rerank in the words of Cohere's and Jina's APIs, for their clients.

A translation and nothing more: everything is judged and done as for `/v1/rerank`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from service.api.access import needs
from service.api.answers import answer, declared
from service.api.decoding import parse
from service.api.front import FrontRoute
from service.api.openapi import request_body
from service.api.request import identify, read_body, service_of
from service.api.rerank import ERRORS, arrival_of, ranked
from service.api.validation import check_documents, check_rerank
from service.bodies import documents as bodies
from service.bodies.documents import DocumentsRequest, DocumentsResponse
from service.bodies.errors import DocumentsErrorResponse
from service.bodies.rerank import Item, RerankRequest, RerankResponse
from service.bodies.twins import twin
from service.errors import Fault, InvalidRequestError

_Request: Any = twin(RerankRequest)
_Item: Any = twin(Item)
"""Of which mypy sees no defaults."""

_Response = twin(DocumentsResponse)
_Result, _Document = twin(bodies.DocumentResult), twin(bodies.RankedDocument)
_Meta, _Usage = twin(bodies.Meta), twin(bodies.Usage)
_API_VERSION = twin(bodies.ApiVersion)(version="2")

UNUSED = (
    *("max_tokens_per_doc", "max_chunks_per_doc", "rank_fields", "priority", "truncation"),
    "return_embeddings",
)
"""What those APIs' clients send, and nothing here depends on."""


class _Route(FrontRoute):
    async def failed(self, request: Request, error: Exception) -> Response:
        """The one shape, its text under the names that those APIs' clients look for, too."""
        refusal = await answer(request, error)
        content = json.loads(bytes(refusal.body))
        content |= {"message": content["error"], "detail": content["error"]}
        headers = {name: value for name, value in refusal.headers.items() if name != "content-length"}
        return Response(json.dumps(content, ensure_ascii=False).encode(), refusal.status_code, headers)


router = APIRouter(tags=["rerank"], route_class=_Route, dependencies=[needs("rerank")])


@router.post(
    "/v2/rerank",
    summary="Re-rank documents",
    response_model=DocumentsResponse,
    responses=declared(*ERRORS, shape=DocumentsErrorResponse),
    openapi_extra=request_body(DocumentsRequest),
)
async def rerank(request: Request) -> Response:
    """As `/v1/rerank`, in the shape of Cohere's and Jina's rerank: a document is an item, by its id."""
    service, arrived = service_of(request), arrival_of(request)
    content = await read_body(request)
    with service.metrics.stage("parse"):
        asked = parse(DocumentsRequest, content)
        del content
        identify(request, asked)
        check_documents(asked, service.settings)
        body = _of_items(asked)
        with _faults_of_documents(asked):
            check_rerank(body, service.settings)
    with _faults_of_documents(asked):
        response = await ranked(request, body, asked.model, arrived)
    return Response(msgspec.json.encode(_of_documents(asked, response)), media_type="application/json")


def _of_items(asked: DocumentsRequest) -> RerankRequest:
    request: RerankRequest = _Request(
        user_id=asked.user_id,
        items=[_item(document) for document in asked.documents],
        context={"query": asked.query, **asked.context} if asked.query else asked.context,
        top_n=asked.top_n,
        return_all=asked.top_n is None,
        deadline_ms=asked.deadline_ms,
        strict=asked.strict,
    )
    return request


def _item(document: str | bodies.Document) -> Any:
    if isinstance(document, str):
        return _Item(id=document)
    return _Item(id=document.id, score=document.score, features=document.features)


def _of_documents(asked: DocumentsRequest, response: RerankResponse) -> DocumentsResponse:
    count = len(asked.documents)
    results = [
        _Result(
            index=result.index,
            relevance_score=(count - place) / count,
            document=_repeated(asked.documents[result.index]) if asked.return_documents else None,
        )
        for place, result in enumerate(response.results)
    ]
    meta = _Meta(
        api_version=_API_VERSION,
        model_version=response.model_version,
        recommendation_id=response.recommendation_id,
        fallback=response.fallback,
        context=response.context,
        took_ms=response.took_ms,
        warnings=list(_warnings(asked, response)),
    )
    usage = _Usage(total_tokens=response.reasoning.tokens if response.reasoning else 0)
    return _Response(id=response.request_id, model=response.model, results=results, meta=meta, usage=usage)


def _repeated(document: str | bodies.Document) -> bodies.RankedDocument:
    if isinstance(document, str):
        return _Document(id=document, text=document)
    return _Document(id=document.id, text=document.id if document.text is None else document.text)


def _warnings(asked: DocumentsRequest, response: RerankResponse) -> Iterator[str]:
    for name in UNUSED:
        if getattr(asked, name) is not None:
            yield f"{name}: not used"
    for ignored in response.ignored:
        why = "the model has no such field" if ignored.reason == "undeclared" else "some values are unknown"
        yield f"{_field(asked, ignored.field)}: not used, {why}"
    if response.missing_ids:
        yield f"documents: {len(response.missing_ids)} of {len(asked.documents)} are not in the catalogue"


@contextmanager
def _faults_of_documents(asked: DocumentsRequest) -> Iterator[None]:
    """Faults of the list as faults of what was sent."""
    try:
        yield
    except InvalidRequestError as error:
        faults = [Fault(_field(asked, field), message) for field, message in error.faults]
        raise InvalidRequestError(faults) from None


def _field(asked: DocumentsRequest, field: str) -> str:
    """The path, in what was sent, of a field of the list."""
    if field == "context.query" and "query" not in asked.context:
        return "query"
    first, *rest = field.split(".", 2)
    if first != "items":
        return field
    if len(rest) == 2 and rest[0].isdigit() and isinstance(asked.documents[int(rest[0])], str):
        rest = rest[:1]  # a document that is an id
    return ".".join(("documents", *rest))
