"""The application: the only place where objects are wired."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from fastapi import FastAPI

from service.api import openapi, rerank, status, users
from service.api.answers import HANDLERS
from service.api.front import in_front
from service.api.middleware import Observed
from service.api.request import Service
from service.context.memory import MemoryContextStore
from service.context.redis import RedisContextStore
from service.context.store import ContextStore, StoreLimits
from service.observe.metrics import Metrics
from service.observe.tracing import Tracer
from service.serving.loop_lag import LoopLag
from service.serving.registry import Models
from service.serving.reranking import Reranker
from service.settings import Settings

DESCRIPTION = """
Re-ranks the top of a list with a generative model that reasons where it is uncertain.

Never worse than not calling it: when the model cannot answer in time, the caller's own order comes back,
with the reason in `fallback`.
"""


def create_app(
    settings: Settings,
    tracer: Tracer | None = None,
    figures: Path | None = None,
    clock: Callable[[], float] = monotonic,
) -> FastAPI:
    """The service of one bundle. It is opened and warmed up by the lifespan, before any request.

    Args:
        tracer: instead of the settings' own.
        figures: the file of one worker among several, see `Metrics`.
        clock: seconds, for deadlines and for what expires in the process.
    """
    metrics = Metrics(figures)
    tracer = tracer or Tracer.from_settings(settings)
    contexts = _context_store(settings, metrics, clock)
    lag = LoopLag(clock)
    models = Models(settings, metrics, clock, lambda: lag.seconds)
    reranker = Reranker(contexts, metrics, settings.default_deadline_ms, clock, lambda: lag.seconds)
    service = Service(settings, metrics, contexts, models, reranker)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await models.load(settings.bundle)
        lag.start()
        async with metrics.kept_written():
            yield
        service.draining = True
        lag.stop()
        await models.stop()
        await contexts.close()
        if tracer is not None:
            await asyncio.to_thread(tracer.close)

    app = FastAPI(
        title="EGLR re-ranker",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        # FastAPI's own spans hold the path, and with it a user's id; ours are in tracing.py.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    app.include_router(users.router)
    app.include_router(status.router)
    openapi.install(app, rerank.router)
    app.middleware_stack = Observed(in_front(rerank.router, app), metrics, tracer)
    return app


def _context_store(settings: Settings, metrics: Metrics, clock: Callable[[], float]) -> ContextStore:
    limits = StoreLimits(**{name: getattr(settings, name) for name in StoreLimits._fields})
    if settings.redis_url is not None:
        return RedisContextStore.from_settings(
            settings, limits, clock, report=lambda fault: metrics.context_faults.labels(fault).inc()
        )
    return MemoryContextStore(
        limits,
        max_users=settings.memory_max_users,
        max_bytes=settings.memory_max_bytes,
        max_recommendations=settings.memory_max_recommendations,
        clock=clock,
    )
