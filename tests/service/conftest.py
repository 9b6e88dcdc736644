"""The service in the test's own event loop, behind a client, and a clock to steer it by."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from rerank_client import Client, Serve
from steered_clock import SteeredClock

from service.app import create_app
from service.settings import Settings

PATIENCE_MS = 60_000
"""Deadline of requests that name none, so that a busy machine fails no test."""


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> SteeredClock:
    """Stands still until the test moves it. The event loop's timers go by it."""
    clock = SteeredClock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    return clock


@pytest.fixture
def serve(bundle: Path) -> Serve:
    """`async with serve(max_items=3) as client`: the service with these settings, and a `clock` if given."""

    @asynccontextmanager
    async def serving(clock: Callable[[], float] = monotonic, **settings: Any) -> AsyncIterator[Client]:
        given = {
            "bundle": bundle,
            "default_deadline_ms": PATIENCE_MS,
            "max_deadline_ms": PATIENCE_MS,
            **settings,
        }
        app = create_app(Settings(**given), clock=clock)
        async with app.router.lifespan_context(app), Client(app) as client:
            yield client

    return serving


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[Client]:
    """The service with default settings."""
    async with serve() as client:
        yield client
