"""The two clients. Both may be shared, by threads or tasks, and keep their connections."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack, cast

import httpx

from eglr_client import calls
from eglr_client.bodies import (
    Event,
    EventsAnswer,
    FeatureMatrix,
    Features,
    FeedbackAnswer,
    Item,
    Ranking,
    UserContext,
    to_json,
)
from eglr_client.calls import Answer, Call, NoAnswer, Send

Made = TypeVar("Made")


class ReasoningOptions(TypedDict, total=False):
    entropy_threshold: float
    max_tokens: int
    temperature: float
    lookahead: int


class SamplingOptions(TypedDict, total=False):
    temperature: float
    seed: int


class RerankOptions(TypedDict, total=False):
    """The rest of a rerank request, as in the API.

    `deadline_ms` is that of the whole call, in milliseconds.
    """

    request_id: str
    user_id: str
    model: str
    model_version: str
    features_f32: FeatureMatrix
    context: Features
    top_n: int
    return_all: bool
    deadline_ms: float
    explain: bool
    trace_candidates: int
    strict: bool
    reasoning: ReasoningOptions
    sampling: SamplingOptions
    constraints: Mapping[str, Any]


class Settings(TypedDict, total=False):
    """Of a client.

    Attributes:
        api_key: sent as a bearer token.
        deadline_ms: of a rerank that names none (100).
        network_ms: what of a deadline is left for the way there and back (5).
        retries: of a rerank, in its time, if the connection fails or another replica may answer (1).
        timeout_s: of every other call, with all its retries (10).
    """

    api_key: str
    deadline_ms: float
    network_ms: float
    retries: int
    timeout_s: float


class _Base:
    def __init__(self, **settings: Unpack[Settings]) -> None:
        self._deadline_ms, self._network_ms = (
            settings.get("deadline_ms", 100.0),
            settings.get("network_ms", 5.0),
        )
        self._retries, self._timeout_s = settings.get("retries", 1), settings.get("timeout_s", 10.0)
        key = settings.get("api_key")
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}

    def _rerank(
        self, items: Sequence[Item | str | Mapping[str, Any]], options: RerankOptions
    ) -> Call[Ranking]:
        body: dict[str, Any] = dict(options)
        deadline_ms = body.pop("deadline_ms", self._deadline_ms)
        if body.get("features_f32") is not None:
            body["features_f32"] = to_json(body["features_f32"])
        return calls.rerank(items, body, deadline_ms, self._network_ms, self._retries)


class Client(_Base):
    """Of the re-ranking service. A context manager; `close` ends its connections."""

    def __init__(
        self, url: str, *, transport: httpx.BaseTransport | None = None, **settings: Unpack[Settings]
    ) -> None:
        """
        Args:
            url: of the service, such as `http://reranker:8080`; may have a path.
        """
        super().__init__(**settings)
        self._http = httpx.Client(base_url=url, headers=self._headers, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def rerank(
        self, items: Sequence[Item | str | Mapping[str, Any]], **options: Unpack[RerankOptions]
    ) -> Ranking:
        """Re-rank candidates: ids, `Item`s, or what the API takes.

        Returns within `deadline_ms`. Where the service gives no answer, the result is the given order, with
        `fallback == "unreachable"`; but with `strict`, or with `constraints`, which that order may break, an
        error is raised.

        Raises:
            AnswerError: the request is refused (422, 401, ...), whatever else was asked for.
            UnreachableError: with `strict` or `constraints`: no answer came.
        """
        return self._run(self._rerank(items, options))

    def feedback(self, recommendation_id: str, events: Sequence[Event]) -> FeedbackAnswer:
        """Report what became of a ranking; tried again until `timeout_s` is over. Each event counts once.

        Raises:
            AnswerError: 404, the recommendation is unknown or too old; 503, the store did not answer; ...
            UnreachableError: no answer came. Whether the events were taken is not known; sent again with the
                same `event_id`s they count once.
        """
        return self._run(calls.feedback(recommendation_id, events, self._timeout_s))

    def add_events(self, user_id: str, events: Sequence[Event]) -> EventsAnswer:
        """Report what a user did outside any list. Tries and raises as `feedback`."""
        return self._run(calls.events(user_id, events, self._timeout_s))

    def put_context(self, user_id: str, context: UserContext) -> None:
        """Replace what is known of a user. Tries and raises as `feedback`."""
        self._run(calls.put_context(user_id, context, self._timeout_s))

    def context(self, user_id: str) -> UserContext | None:
        """What is known of a user; None if nothing is. Tries and raises as `feedback`."""
        return self._run(calls.get_context(user_id, self._timeout_s))

    def forget(self, user_id: str) -> None:
        """Have a user forgotten. Tries and raises as `feedback`."""
        self._run(calls.forget(user_id, self._timeout_s))

    def models(self) -> dict[str, Any]:
        """What is served, as `GET /v1/models` tells it. Tries and raises as `feedback`."""
        return self._run(calls.models(self._timeout_s))

    def _run(self, call: Call[Made]) -> Made:
        came: Answer | NoAnswer | None = None
        while True:
            try:
                step = call.send(came)
            except StopIteration as end:
                return cast(Made, end.value)
            if isinstance(step, Send):
                came = self._send(step)
            else:
                sleep(step.seconds)
                came = None

    def _send(self, step: Send) -> Answer | NoAnswer:
        try:
            with self._http.stream(
                step.method, step.path, json=step.body, extensions={"timeout": _Remaining(step.until)}
            ) as response:
                parts = []
                for part in response.iter_bytes():
                    parts.append(part)
                    if monotonic() > step.until:
                        return NoAnswer("the answer came too slowly", timed_out=True)
                return _answer(response, b"".join(parts))
        except httpx.TransportError as error:
            return _no_answer(error)


class AsyncClient(_Base):
    """`Client` for asyncio: the same methods, to be awaited."""

    def __init__(
        self, url: str, *, transport: httpx.AsyncBaseTransport | None = None, **settings: Unpack[Settings]
    ) -> None:
        super().__init__(**settings)
        self._http = httpx.AsyncClient(base_url=url, headers=self._headers, transport=transport, timeout=None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def rerank(
        self, items: Sequence[Item | str | Mapping[str, Any]], **options: Unpack[RerankOptions]
    ) -> Ranking:
        """As `Client.rerank`."""
        return await self._run(self._rerank(items, options))

    async def feedback(self, recommendation_id: str, events: Sequence[Event]) -> FeedbackAnswer:
        """As `Client.feedback`."""
        return await self._run(calls.feedback(recommendation_id, events, self._timeout_s))

    async def add_events(self, user_id: str, events: Sequence[Event]) -> EventsAnswer:
        """As `Client.add_events`."""
        return await self._run(calls.events(user_id, events, self._timeout_s))

    async def put_context(self, user_id: str, context: UserContext) -> None:
        """As `Client.put_context`."""
        await self._run(calls.put_context(user_id, context, self._timeout_s))

    async def context(self, user_id: str) -> UserContext | None:
        """As `Client.context`."""
        return await self._run(calls.get_context(user_id, self._timeout_s))

    async def forget(self, user_id: str) -> None:
        """As `Client.forget`."""
        await self._run(calls.forget(user_id, self._timeout_s))

    async def models(self) -> dict[str, Any]:
        """As `Client.models`."""
        return await self._run(calls.models(self._timeout_s))

    async def _run(self, call: Call[Made]) -> Made:
        came: Answer | NoAnswer | None = None
        while True:
            try:
                step = call.send(came)
            except StopIteration as end:
                return cast(Made, end.value)
            if isinstance(step, Send):
                came = await self._send(step)
            else:
                await asyncio.sleep(step.seconds)
                came = None

    async def _send(self, step: Send) -> Answer | NoAnswer:
        try:
            async with asyncio.timeout(step.until - monotonic()):
                response = await self._http.request(step.method, step.path, json=step.body)
        except TimeoutError:
            return NoAnswer("the answer did not come in time", timed_out=True)
        except httpx.TransportError as error:
            return _no_answer(error)
        return _answer(response, response.content)


class _Remaining(dict[str, float]):
    """Timeouts for httpx, which asks for one at each step of a request: what is left until a time."""

    def __init__(self, until: float) -> None:
        self._until = until

    def get(self, key: str, default: Any = None) -> float:
        return max(0.001, self._until - monotonic())


def _answer(response: httpx.Response, content: bytes) -> Answer:
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    return Answer(
        response.status_code, body if isinstance(body, dict) else None, response.headers.get("retry-after")
    )


def _no_answer(error: httpx.TransportError) -> NoAnswer:
    return NoAnswer(str(error) or type(error).__name__, isinstance(error, httpx.TimeoutException))
