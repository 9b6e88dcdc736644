"""Routes in front of FastAPI: documented by it, and served without it.

What FastAPI does before a handler is called, and after, takes a sixth of a rerank's CPU time
(docs/decisions/dispatch.md). Routes whose handlers read and answer the request by themselves need none of it.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Router
from starlette.types import ASGIApp

from service.api.answers import answered


class FrontRoute(APIRoute):
    """Hands the request and the parameters of its path to the handler, and sends the response it returns."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            response: Response = await self.endpoint(request, **request.path_params)
            return response

        return handle


def in_front(front: APIRouter, app: FastAPI) -> ASGIApp:
    """Serves the routes of `front`, and everything else, start and shutdown too, through `app`'s stack."""
    fallthrough = app.build_middleware_stack()
    return answered(Router(front.routes, default=fallthrough, lifespan=app.router.lifespan_context))
