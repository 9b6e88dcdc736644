"""The service in the test's own event loop, behind a client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rerank_client import Client, Serve

from service.app import create_app
from service.settings import Settings


@pytest.fixture
def serve(bundle: Path) -> Serve:
    """`async with serve(max_items=3) as client`: the service with these settings."""

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[Client]:
        app = create_app(Settings(bundle=bundle, **settings))
        async with app.router.lifespan_context(app), Client(app) as client:
            yield client

    return serving


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[Client]:
    """The service with default settings."""
    async with serve() as client:
        yield client
