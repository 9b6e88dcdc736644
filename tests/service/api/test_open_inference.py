"""Health and metadata by the Open Inference Protocol."""

from pathlib import Path

from error_answers import refused
from faulty_runners import Failing, put_runner
from model_changes import load
from rerank_client import Client

from launch.bundles import copied
from service.errors import NotFoundError


async def test_health_is_that_of_livez_and_readyz(client: Client) -> None:
    for state, path in (("live", "/v2/health/live"), ("ready", "/v2/health/ready")):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {state: True})
        assert (await client.head(path)).status_code == 200
    client.service.draining = True
    answer = await client.get("/v2/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False})
    answer = await client.get("/v2/models/eglr/ready")
    assert (answer.status_code, answer.json()) == (503, {"name": "eglr", "ready": False})
    assert (await client.get("/v2/health/live")).status_code == 200


async def test_a_model_that_fails_is_not_ready(client: Client) -> None:
    put_runner(client, Failing())
    assert (await client.rerank(["i1", "i2"])).json()["fallback"] == "model"
    for path in ("/v2/models/eglr/ready", "/v2/models/eglr/versions/1/ready"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (503, {"name": "eglr", "ready": False})


async def test_metadata(client: Client, bundle: Path, tmp_path: Path) -> None:
    await load(client, copied(bundle, tmp_path, "eglr", "2"))
    server = (await client.get("/v2")).json()
    assert server == {"name": client.app.title, "version": client.app.version, "extensions": []}
    model = (await client.get("/v2/models/eglr")).json()
    assert (model["name"], model["versions"], model["platform"]) == ("eglr", ["1", "2"], "eglr")
    assert [one["name"] for one in model["inputs"]] == ["documents"]
    assert [one["name"] for one in model["outputs"]] == ["index", "relevance_score"]
    assert (await client.get("/v2/models/eglr/versions/2")).json() == {**model, "versions": ["2"]}
    for path in ("films", "films/ready", "eglr/versions/3", "eglr/versions/3/ready"):
        refused(await client.get(f"/v2/models/{path}"), NotFoundError)
