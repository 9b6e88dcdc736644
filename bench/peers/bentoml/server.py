"""BentoML, one worker, its own metrics, traces and access log off; batches by its own adaptive dispatcher.

A batchable method would want bodies that are lists, so the endpoint takes the raw body and hands it to the
dispatcher that batchable methods use.
"""

import os
from typing import Any, Self

import bentoml
from bentoml._internal.marshal.dispatcher import CorkDispatcher
from pydantic import BaseModel
from starlette.responses import Response

from bench.peers.work import MAX_BATCH_SIZE, Job, Work
from engine.generation import Slate


class RawBody(BaseModel):
    """An input that BentoML hands over as it came, for the parser that all share."""

    content: bytes

    @classmethod
    def model_validate_json(cls, json_data: Any, **_: Any) -> Self:
        return cls.model_construct(content=json_data)


@bentoml.service(
    name="reranker",
    workers=1,
    traffic={"timeout": 60, "max_concurrency": 1024},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing={"sample_rate": 0.0},
)
class Reranker:
    """One process, one event loop."""

    def __init__(self) -> None:
        self.work = Work()
        self.batching = os.environ.get("BENCH_BATCHING", "1") == "1"
        dispatcher = CorkDispatcher(
            max_latency_in_ms=60_000,  # what batchable methods have if they say nothing
            max_batch_size=MAX_BATCH_SIZE,
            fallback=lambda: None,
            get_batch_size=lambda _: 1,
        )
        self.infer = dispatcher(self._infer)

    async def _infer(self, jobs: list[Job]) -> list[Slate]:
        return self.work.infer(list(jobs))

    @bentoml.api(route="/v1/rerank")
    async def rerank(self, body: RawBody, /) -> Any:
        job = self.work.prepare(body.content)
        slate = await self.infer(job) if self.batching else self.work.infer([job])[0]
        return Response(self.work.answer(job, slate), media_type="application/json")
