"""Changes of what a service in the test's own process serves."""

from pathlib import Path

from rerank_client import Client

from service.serving.plan import ModelKey, Pin


async def load(client: Client, folder: Path) -> None:
    """Beside what is served."""
    await client.service.changes.make(lambda plan: plan.loaded(Pin.of(folder)))


async def swap(client: Client, folder: Path) -> None:
    """In place of every version of its name."""
    await client.service.changes.make(lambda plan: plan.reloaded([Pin.of(folder)]))


async def unload(client: Client, key: ModelKey) -> None:
    await client.service.changes.make(lambda plan: plan.unloaded(*key))
