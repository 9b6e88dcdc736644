"""FastAPI, with reranks answered before its middleware and its routing.

From the socket to a route and back FastAPI and Starlette take longer than all of a rerank but its inference.
So a POST to a rerank route goes straight to what the route of `routes` calls; that route is still declared,
for the OpenAPI document and for whatever comes here in another shape, such as a wrong method.
"""

import re
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from starlette.types import Receive, Scope, Send

from service.api import answers
from service.api.middleware import Observed
from service.api.routes import RERANK, RERANK_WITH, Service, rerank_body
from service.observe.tracing import Tracer

_NAMED = re.compile(re.escape(RERANK_WITH).replace(r"\{model\}", "([^/]+)"))
_JSON = (b"content-type", b"application/json")


class _Route(NamedTuple):
    """What metrics and traces name a request by."""

    path: str


class Application(FastAPI):
    """The service as an ASGI application."""

    def __init__(self, service: Service, tracer: Tracer | None, **options: Any) -> None:
        super().__init__(**options)
        self.state.service = service
        self._observed = Observed(self._dispatch, service.metrics, tracer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._observed(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            if scope["path"] == RERANK:
                await self._rerank(RERANK, None, scope, receive, send)
                return
            if named := _NAMED.fullmatch(scope["path"]):
                await self._rerank(RERANK_WITH, named[1], scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    async def _rerank(self, path: str, model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"], scope["route"] = self, _Route(path)
        request = Request(scope, receive)
        try:
            body = await rerank_body(request, model)
        except Exception as error:
            await (await answers.answer(request, error))(scope, receive, send)
            if type(error) not in answers.ANSWERS:
                raise  # the server logs it
            return
        headers = [_JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
