"""What the service says of itself: its models, and whether it should get traffic."""

from functools import partial
from pathlib import Path

from eventually import eventually
from faulty_runners import Confused, Failing, held, put_runner
from rerank_client import Client, Serve

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
    assert (model["provider"], model["decoding"]) == ("CPUExecutionProvider", "native")
    told = {
        (one["scope"], one["name"]): (one["kind"], one["values"], one["size"]) for one in model["features"]
    }
    assert told == {
        ("item", "price"): ("numeric", None, None),
        ("item", "genres"): ("multivalued", 5, None),
        ("item", "embedding"): ("vector", None, 4),
        ("user", "taste"): ("vector", None, 4),
        ("context", "device"): ("categorical", 2, None),
    }
    assert (model["event_types"], model["groups"]) == (["click"], ["genres"])
    assert model["initial_score"] is True


async def test_readiness_ends_where_draining_begins(client: Client) -> None:
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok"})
    client.service.draining = True
    draining = await client.get("/readyz")
    assert (draining.status_code, draining.json()) == (503, {"status": "draining"})
    alive = await client.get("/livez")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})


async def test_readiness_asks_a_model_that_failed(client: Client) -> None:
    real = client.service.models.get().model.runner
    for runner in (Failing(), Confused(real)):
        put_runner(client, runner)
        assert (await client.get("/readyz")).status_code == 200, "nothing has failed yet"
        assert (await client.rerank(["i1", "i2"])).json()["fallback"] == "model"
        failing = await client.get("/readyz")
        assert (failing.status_code, failing.json()) == (503, {"status": "failing"})
        assert (await client.get("/livez")).status_code == 200
        put_runner(client, real)
        assert (await client.get("/readyz")).json() == {"status": "ok"}, "without any caller's help"


async def test_a_stuck_model_fails_readiness_then_life(serve: Serve) -> None:
    async with serve(stuck_after_s=0.1) as client:
        gate = held(client)
        late = await client.rerank(["i1", "i2"], deadline_ms=50)
        assert late.json()["fallback"] == "deadline"
        assert gate.reached.is_set()
        for path in ("/readyz", "/livez"):
            await eventually(partial(answers, client, path, (503, "failing")))
        gate.set()
        for path in ("/readyz", "/livez"):
            await eventually(partial(answers, client, path, (200, "ok")))


async def answers(client: Client, path: str, expected: tuple[int, str]) -> bool:
    answer = await client.get(path)
    return (answer.status_code, answer.json()["status"]) == expected
