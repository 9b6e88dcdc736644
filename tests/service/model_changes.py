"""Bundles by other names and versions, and changes of what a service in the test's own process serves."""

import json
import shutil
from pathlib import Path
from typing import Any

from rerank_client import Client

from bundle.manifest import MANIFEST
from service.serving.plan import ModelKey, Pin


def copied(bundle: Path, folder: Path, key: ModelKey, **changes: Any) -> Path:
    """A bundle by another name and version, where a folder of models has it."""
    target = folder / key.name / key.version
    shutil.copytree(bundle, target)
    manifest = json.loads((bundle / MANIFEST).read_text())
    (target / MANIFEST).write_text(json.dumps(manifest | key._asdict() | changes))
    return target


async def load(client: Client, folder: Path) -> None:
    """Beside what is served."""
    await client.service.changes.make(lambda plan: plan.loaded(Pin.of(folder)))


async def swap(client: Client, folder: Path) -> None:
    """In place of every version of its name."""
    await client.service.changes.make(lambda plan: plan.reloaded([Pin.of(folder)]))


async def unload(client: Client, key: ModelKey) -> None:
    await client.service.changes.make(lambda plan: plan.unloaded(*key))
