"""What the service says of itself: its models, and whether it should get traffic."""

from pathlib import Path

from rerank_client import Client

from bundle.manifest import read_manifest


async def test_models_are_listed(client: Client, bundle: Path) -> None:
    manifest = read_manifest(bundle)
    (model,) = (await client.get("/v1/models")).json()["models"]
    assert (model["name"], model["version"]) == ("eglr", "1")
    assert (model["dataset"], model["created"]) == (manifest.dataset, manifest.created)
    gate = manifest.gate
    assert model["gate"] == {
        "kind": gate.kind,
        "threshold": gate.threshold,
        "trigger_rate": gate.trigger_rate,
    }
    assert model["defaults"]["slate_length"] == 10
    assert model["provider"] == "CPUExecutionProvider"


async def test_readiness_ends_where_draining_begins(client: Client) -> None:
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok"})
    client.service.draining = True
    draining = await client.get("/readyz")
    assert (draining.status_code, draining.json()) == (503, {"status": "draining"})
    alive = await client.get("/livez")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
