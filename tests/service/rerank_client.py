"""A client of an app in the test's own event loop."""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

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
        """Sum of the samples with these labels: `rerank_fallback_total{reason="model"}`. 0 without any."""
        name, _, labels = name.partition("{")
        wanted = dict(re.findall(r'(\w+)="(.*?)"', labels))
        families = text_string_to_metric_families((await self.get("/metrics")).text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if wanted.items() <= sample.labels.items())


Serve = Callable[..., AbstractAsyncContextManager[Client]]
