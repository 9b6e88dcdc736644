"""A list of candidates as `documents`: the words of Cohere's and Jina's rerank APIs."""

from typing import Annotated

from pydantic import Field

from service.bodies.common import Body, Features, Id, IdentifiedBody, Positive, example
from service.bodies.rerank import ContextResult, Fallback, Score


class Document(Body):
    """One candidate."""

    id: Id = Field(description="Of the item.")
    text: str | None = Field(None, description="Not read by the model; returned with `return_documents`.")
    score: Score | None = Field(None, description="As an item's in `/v1/rerank`.")
    features: Features | None = Field(None, description="As an item's in `/v1/rerank`.")


class DocumentsRequest(IdentifiedBody):
    """Candidates in the caller's order, which is also the order of every fallback."""

    model: str | None = Field(None, description="Name of a served model; the default one if absent.")
    query: str = Field(
        "",
        description="The feature `query` of the request, if the model has one; else it is not used. It names "
        "no user. An empty one counts as absent.",
    )
    documents: Annotated[list[Id | Document], Field(min_length=1)] = Field(
        description="Ids of items, or items with what is known of them. Texts are not read."
    )
    top_n: Positive | None = Field(
        None,
        description="How many results are wanted. If absent, there is one for every document: as many as the "
        "model's slate holds are ranked, and the others follow in the caller's order.",
    )
    return_documents: bool = Field(False, description="Repeat each document's `id` and `text` in its result.")
    user_id: Id | None = Field(None, description="Whose stored context to use; anonymous if absent.")
    context: Features = Field(default_factory=dict, description="As in `/v1/rerank`.")
    deadline_ms: Annotated[float, Field(gt=0)] | None = Field(None, description="As in `/v1/rerank`.")
    strict: bool = Field(False, description="As in `/v1/rerank`.")
    max_tokens_per_doc: int | None = Field(None, description="Not used, as no texts are read.")
    max_chunks_per_doc: int | None = Field(None, description="Not used.")
    rank_fields: list[str] | None = Field(None, description="Not used.")
    priority: int | None = Field(None, description="Not used: callers have equal shares.")
    truncation: bool | None = Field(None, description="Not used.")
    return_embeddings: bool | None = Field(None, description="Not used: there are none.")

    model_config = example(
        {"query": "", "documents": ["i1", "i2", "i3"], "top_n": 2},
        {
            "model": "eglr",
            "query": "",
            "documents": [{"id": "i1", "text": "Alien"}, {"id": "i2", "features": {"price": 9.5}}, "i3"],
            "return_documents": True,
            "user_id": "u1",
            "context": {"device": "ios"},
            "deadline_ms": 40,
        },
    )


class RankedDocument(Body):
    """What was sent of a document."""

    id: str
    text: str = Field(description="Its id if none was sent.")


class DocumentResult(Body):
    """One document of the answer."""

    index: int = Field(description="Index of the document in the request, from 0.")
    relevance_score: float = Field(
        description="1 for the first result, and 1/N less for each after it, N being the documents sent. It "
        "tells the order and nothing else: how sure the model is, is told by `/v1/rerank`."
    )
    document: RankedDocument | None = Field(default=None, description="With `return_documents` only.")


class ApiVersion(Body):
    """Of Cohere's API."""

    version: str


class Meta(Body):
    """How the list came about."""

    api_version: ApiVersion
    model_version: str
    recommendation_id: str | None = Field(description="To be sent back with feedback, see `/v1/rerank`.")
    fallback: Fallback | None = Field(description="Why this is the caller's order; null if it is not.")
    context: ContextResult | None = Field(description="Result of looking up the user's context.")
    took_ms: float
    warnings: list[str] = Field(
        default_factory=list, description="What was sent and not used; absent if nothing was."
    )


class Usage(Body):
    """What was spent."""

    total_tokens: int = Field(description="Reasoning tokens in the list.")


class DocumentsResponse(Body):
    """The re-ranked documents, or the caller's order with the reason in `meta.fallback`."""

    id: str = Field(description="The request's id.")
    model: str
    results: list[DocumentResult]
    meta: Meta
    usage: Usage

    model_config = example(
        {
            "id": "r-17",
            "model": "eglr",
            "results": [
                {"index": 1, "relevance_score": 1.0, "document": {"id": "i2", "text": "i2"}},
                {"index": 0, "relevance_score": 0.5, "document": {"id": "i1", "text": "Alien"}},
            ],
            "meta": {
                "api_version": {"version": "2"},
                "model_version": "3",
                "recommendation_id": "5f0c7c1e6d3b4a0f9a57f0f6a8d1b2c3",
                "fallback": None,
                "context": "hit",
                "took_ms": 7.1,
                "warnings": ["query: not used, the model has no such field"],
            },
            "usage": {"total_tokens": 2},
        }
    )
