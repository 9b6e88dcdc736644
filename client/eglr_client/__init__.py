"""Client of the re-ranking service: `Client`, and `AsyncClient` for asyncio. Needs httpx alone."""

from eglr_client.bodies import (
    Event,
    EventsAnswer,
    FeatureMatrix,
    FeedbackAnswer,
    History,
    Ignored,
    IgnoredEvent,
    Item,
    Ranking,
    Reasoning,
    Result,
    TracePosition,
    TraceStep,
    UsedSampling,
    UserContext,
)
from eglr_client.client import AsyncClient, Client
from eglr_client.errors import AnswerError, ClientError, UnreachableError

__all__ = [
    "AnswerError",
    "AsyncClient",
    "Client",
    "ClientError",
    "Event",
    "EventsAnswer",
    "FeatureMatrix",
    "FeedbackAnswer",
    "History",
    "Ignored",
    "IgnoredEvent",
    "Item",
    "Ranking",
    "Reasoning",
    "Result",
    "TracePosition",
    "TraceStep",
    "UnreachableError",
    "UsedSampling",
    "UserContext",
]
