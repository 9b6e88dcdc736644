"""A client of an app in the test's own event loop."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
from fastapi import FastAPI

from service.api.request import Service


class Client(httpx.AsyncClient):
    """A client of one app, whose inside is at hand in `service`."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://service"
        )
        self.app = app
        self.service: Service = app.state.service

    async def rerank(self, items: list[str] | list[dict[str, Any]], **fields: Any) -> httpx.Response:
        listed = [{"id": item} if isinstance(item, str) else item for item in items]
        return await self.post("/v1/rerank", json={"items": listed, **fields})

    async def metric(self, name: str) -> float:
        """Value of one sample, such as `rerank_fallback_total{reason="model"}`; 0 if absent."""
        lines = (await self.get("/metrics")).text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)


Serve = Callable[..., AbstractAsyncContextManager[Client]]
