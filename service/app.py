"""The application: the only place where objects are wired."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from bundle.repository import Repository
from service.api import console, documents, open_inference, openapi, rerank, status, users
from service.api import models as admin
from service.api.access import Access
from service.api.answers import HANDLERS
from service.api.front import in_front
from service.api.hosts import AllowedHosts
from service.api.middleware import Observed
from service.api.request import Service
from service.context.memory import MemoryContextStore
from service.context.redis import RedisContextStore
from service.context.store import ContextStore, StoreLimits
from service.observe.answer_log import AnswerLog
from service.observe.decision_files import DecisionFiles
from service.observe.decision_log import DecisionLog
from service.observe.decision_stream import DecisionStream
from service.observe.metrics import Metrics
from service.observe.tracing import Tracer
from service.serving.changes import Changes, starting
from service.serving.exploration import Exploration
from service.serving.hard_rules import HardRules
from service.serving.loop_lag import LoopLag
from service.serving.occupancy import Occupancy
from service.serving.plan import Plan
from service.serving.registry import Models
from service.serving.reranking import Reranker
from service.serving.rules import RuleLimits
from service.serving.shadow import Shadows
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
    plan: Plan | None = None,
) -> FastAPI:
    """The service. Its models are opened and warmed up by the lifespan, before any request.

    Args:
        tracer: instead of the settings' own.
        figures: the file of one worker among several, see `Metrics`.
        clock: seconds, for deadlines and for what expires in the process.
        plan: what is served at first; what the settings say when not given.

    `app.state.admin` is the application of `admin_port`, if that is set.
    """
    metrics = Metrics(figures)
    tracer = tracer or Tracer.from_settings(settings)
    contexts = _context_store(settings, metrics, clock)
    metrics.store_answers = lambda: contexts.answers
    lag, occupancy = LoopLag(clock, metrics.loop_lag.observe), Occupancy(clock)
    loop = (clock, lambda: lag.seconds, occupancy)
    models = Models(settings, metrics, *loop)
    repository = Repository(settings.bundle)
    changes = Changes(models, repository, settings.load_timeout_s)
    shadows = Shadows(settings.shadow_load, settings.shadow_queue)
    deadline_ms, max_ignored = settings.default_deadline_ms, settings.max_ignored_fields
    rule_limits = RuleLimits(*(getattr(settings, name) for name in RuleLimits._fields))
    decisions, exploration = _decision_log(settings, metrics), Exploration.from_settings(settings)
    hard_rules = HardRules(settings.max_queue, clock)
    limits = max_ignored, rule_limits
    parts = (contexts, metrics, shadows, deadline_ms)
    reranker = Reranker(*parts, *loop, *limits, hard_rules, decisions, exploration)
    access, answer_log = Access(settings, clock), AnswerLog(settings)
    service = Service(settings, metrics, contexts, models, changes, reranker, access, answer_log, decisions)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await models.prepare(plan or starting(repository, settings))
        models.commit()
        lag.start()
        if decisions is not None:
            decisions.start()
        async with metrics.kept_written():
            yield
        service.draining = True
        lag.stop()
        await shadows.stop()
        await hard_rules.stop()
        await models.stop()
        if decisions is not None:
            await decisions.stop()
        await contexts.close()
        if tracer is not None:
            await asyncio.to_thread(tracer.close)

    def observed(inner: ASGIApp) -> Observed:
        return Observed(inner, metrics, answer_log, tracer)

    app = _application(service, lifespan=lifespan)
    app.include_router(users.router)
    app.include_router(status.router)
    app.include_router(open_inference.router)
    if settings.serves_console:
        page = console.router(settings)
        app.include_router(page)
        _declare(metrics, page)
    inside = app if settings.admin_port is None else _application(service)
    inside.include_router(status.inside)
    if not (settings.allow_anonymous and service.access.open):  # else strangers may reach it
        inside.include_router(admin.router)
    if settings.admin_port is not None:
        inside.include_router(admin.listing)
        app.state.admin = inside
        guarded = _of_allowed_hosts(inside.build_middleware_stack(), settings, settings.admin_host)
        inside.middleware_stack = observed(guarded)
    front = [*rerank.router.routes, *documents.router.routes]
    openapi.install(app, front)
    _declare(metrics, rerank.router, documents.router, users.router, status.router, open_inference.router)
    _declare(metrics, status.inside, admin.router)
    app.middleware_stack = observed(_guarded(in_front(front, app), settings))
    return app


def _declare(metrics: Metrics, *routers: APIRouter) -> None:
    """Every route's documented answers, and 500."""
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                metrics.declare(route.path, {route.status_code or 200, *route.responses, 500})


def _application(service: Service, **named: Any) -> FastAPI:
    app = FastAPI(
        title="EGLR re-ranker",
        version="1",
        description=DESCRIPTION,
        exception_handlers=HANDLERS,
        openapi_url=None,  # see `openapi`
        redirect_slashes=False,  # to what the Host header names
        # FastAPI's own spans hold the path, and with it a user's id; ours are in tracing.py.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        **named,
    )
    app.state.service = service
    app.root_path = service.settings.root_path  # by the server it would only do for a proxy that strips it
    return app


def _guarded(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Behind what browsers are told, and the Host names that are answered; where nothing is set, nothing."""
    app = _of_allowed_hosts(app, settings)
    if settings.cors_origins:
        methods = "GET", "HEAD", "POST", "PUT", "DELETE"
        headers = "authorization", "content-type", "x-api-key"
        told = ("x-request-id", "x-ignored-fields", "retry-after")
        app = CORSMiddleware(
            app, settings.cors_origins, methods, (*headers, "x-request-id"), expose_headers=told
        )
    return app


def _of_allowed_hosts(app: ASGIApp, settings: Settings, *more: str) -> ASGIApp:
    """If not all are; then `more` addresses are, too."""
    if not settings.allowed_hosts:
        return app
    addresses = [f"[{address}]" if ":" in address else address for address in more]
    return AllowedHosts(app, [*settings.allowed_hosts, *addresses])


def _decision_log(settings: Settings, metrics: Metrics) -> DecisionLog | None:
    place = settings.decision_log
    if place is None:
        return None
    if "://" in place:
        return DecisionLog(DecisionStream(place, settings), settings, metrics)
    files = DecisionFiles(Path(place), settings, metrics.decision_files_removed.inc)
    return DecisionLog(files, settings, metrics)


def _context_store(settings: Settings, metrics: Metrics, clock: Callable[[], float]) -> ContextStore:
    limits = StoreLimits.from_settings(settings)
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
