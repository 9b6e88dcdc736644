"""The application as it is wired: what it answers before its lifespan has loaded anything."""

from pathlib import Path

from rerank_client import Client

from service.app import create_app
from service.settings import Settings


async def test_not_ready_before_loading(bundle: Path) -> None:
    async with Client(create_app(Settings(bundle=bundle))) as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "starting")
        assert (await client.get("/livez")).status_code == 200
        refused = await client.rerank(["i1"])
        assert (refused.status_code, refused.json()["error_type"]) == (503, "unavailable")
