"""The routes that change what is served, and which model answers whom."""

import json
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from pydantic import ValidationError
from rerank_client import Client, Serve

from bundle.manifest import DECODE, MANIFEST, SLATE, BundleError, sha256
from bundle.repository import point
from launch.bundles import copied
from service.errors import ServiceError
from service.keys import new
from service.settings import Settings

ITEMS = [f"i{n}" for n in range(12)]


@pytest.fixture
def repository(bundle: Path, tmp_path: Path) -> Path:
    """Three versions of films, the first one current."""
    for version in ("1", "2", "3"):
        copied(bundle, tmp_path / "bundles", "films", version)
    point(tmp_path / "bundles/films", "1")
    return tmp_path / "bundles"


@pytest.fixture
async def client(serve: Serve, repository: Path) -> AsyncIterator[Client]:
    async with serve(bundle=repository) as client:
        yield client


def shares(answer: httpx.Response) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    return {model["version"]: model["share"] for model in answer.json()["models"]}


async def answered_by(client: Client, **fields: Any) -> str:
    answer = (await client.rerank(ITEMS, **fields)).json()
    assert answer["fallback"] is None
    return f"{answer['model']} {answer['model_version']}"


async def test_shares_and_shadows_are_there_from_the_start(serve: Serve, repository: Path) -> None:
    settings = {"shares": "films/3=.25, films/2=0.75", "shadows": "films:films/1=0.5"}
    async with serve(bundle=repository, **settings) as client:
        models = (await client.get("/v1/models")).json()["models"]
        assert {model["version"]: model["share"] for model in models} == {"1": 0, "2": 0.75, "3": 0.25}
        assert models[0]["shadow"] == {"model": "films", "version": "1", "share": 0.5}
        assert {await answered_by(client, user_id=f"u{n}") for n in range(20)} == {"films 2", "films 3"}
        assert (await client.post("/v1/models/films:rollback")).status_code == 409, "nothing was changed"
        assert shares(await client.post("/v1/models:reload")) == {"1": 0, "2": 0.75, "3": 0.25}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shares": "films/2=0.5,films/2=1"}, "shares of films: 2 occurs twice"),
        ({"shares": "films/2=0.5"}, "shares of films: they add up to 0.5, expected 1"),
        ({"shares": "films/9=1"}, "films: no version 9; there are"),
        ({"shares": "books/1=1"}, "books: no version 1; there are none"),
        ({"shadows": "books:films/2=1"}, "no model 'books'; served: films"),
    ],
)
async def test_shares_that_cannot_be_are_refused_at_the_start(
    serve: Serve, repository: Path, settings: dict[str, str], told: str
) -> None:
    with pytest.raises((BundleError, ServiceError), match=re.escape(told)):
        async with serve(bundle=repository, **settings):
            pass


@pytest.mark.parametrize(
    "settings",
    [{"shares": "films=1"}, {"shares": "films/1=2"}, {"shares": "films/1=-1"}, {"shadows": "films/1=1"}],
)
def test_shares_are_of_one_form(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"expected NAME[/:].*SHARE with a share from 0 to 1"):
        Settings(bundle="b", **settings)


async def test_a_version_is_tried_takes_over_and_is_rolled_back(client: Client) -> None:
    assert shares(await client.post("/v1/models/films/versions/2:load")) == {"1": 1, "2": 0}
    assert await answered_by(client) == "films 1"
    assert await answered_by(client, model_version="2") == "films 2", "for who asks for it"
    body = {"shares": {"2": 1}}
    assert shares(await client.put("/v1/models/films/shares", json=body)) == {"1": 0, "2": 1}
    assert await answered_by(client, model="films") == "films 2"
    assert shares(await client.post("/v1/models/films:rollback")) == {"1": 1, "2": 0}
    assert await answered_by(client) == "films 1"
    assert shares(await client.post("/v1/models/films/versions/2:unload")) == {"1": 1}
    assert (await client.rerank(ITEMS, model_version="2")).status_code == 404


async def test_a_reload_follows_the_pointer_and_is_rolled_back(client: Client, repository: Path) -> None:
    point(repository / "films", "3")
    assert await answered_by(client) == "films 1", "until it is told"
    assert shares(await client.post("/v1/models:reload")) == {"3": 1}
    assert await answered_by(client) == "films 3"
    assert shares(await client.post("/v1/models/films:rollback")) == {"1": 1}, "though it was freed"
    assert shares(await client.post("/v1/models:reload")) == {"1": 1}


async def test_a_user_stays_with_a_version(client: Client) -> None:
    await client.post("/v1/models/films/versions/2:load")
    await client.put("/v1/models/films/shares", json={"shares": {"1": 0.7, "2": 0.3}})
    by_user = {f"u{n}": await answered_by(client, user_id=f"u{n}") for n in range(60)}
    assert 5 <= Counter(by_user.values())["films 2"] <= 33, "three in ten, give or take four deviations"
    assert by_user == {user: await answered_by(client, user_id=user) for user in by_user}
    by_request = [await answered_by(client, request_id=f"r{n % 20}") for n in range(40)]
    assert by_request[:20] == by_request[20:]
    assert set(by_request) == {"films 1", "films 2"}
    for version, share in (("1", 0.7), ("2", 0.3)):
        assert await client.metric(f'rerank_model_share{{version="{version}"}}') == share
    counts = [await client.metric(f'rerank_list_size_count{{version="{version}"}}') for version in ("1", "2")]
    assert sum(counts) == 160
    await client.put("/v1/models/films/shares", json={"shares": {"1": 0.5, "2": 0.5}})
    moved = {user: await answered_by(client, user_id=user) for user in by_user}
    assert all(moved[user] == "films 2" for user, version in by_user.items() if version == "films 2")


async def test_models_are_found_by_name(client: Client, bundle: Path, repository: Path) -> None:
    copied(bundle, repository, "books", "1")
    assert (await client.rerank(ITEMS, model="books")).status_code == 404
    loaded = await client.post("/v1/models/books/versions/1:load")
    names = [(model["name"], model["share"]) for model in loaded.json()["models"]]
    assert names == [("films", 1), ("books", 1)]
    assert await answered_by(client) == "films 1"
    assert await answered_by(client, model="books") == "books 1"
    body = {"items": [{"id": item} for item in ITEMS], "model": "films"}
    refused = await client.post("/v1/models/books/rerank", json=body)
    assert (refused.status_code, refused.json()["fields"][0]["field"]) == (422, "model")
    assert (await client.post("/v1/models/films/rerank", json=body)).status_code == 200
    assert (await client.post("/v1/models/books:default")).status_code == 200
    assert await answered_by(client) == "books 1"


async def test_what_cannot_be_done_is_refused_and_changes_nothing(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    before = (await client.get("/v1/models")).json()
    refused: list[tuple[str, str, Any, int, str]] = [
        ("POST", "/v1/models/films/versions/9:load", None, 422, "no version 9; there are 1, 2, 3"),
        ("POST", "/v1/models/songs/versions/1:load", None, 422, "no version 1; there are none"),
        ("POST", "/v1/models/films/versions/1:unload", None, 409, "all there is of the default model"),
        ("POST", "/v1/models/songs/versions/1:unload", None, 404, "no model 'songs'"),
        ("POST", "/v1/models/songs:default", None, 404, "no model 'songs'"),
        ("POST", "/v1/models/films:rollback", None, 409, "was not changed"),
        ("PUT", "/v1/models/films/shares", {"shares": {"2": 1}}, 404, "films '2' is not loaded"),
        ("PUT", "/v1/models/films/shares", {"shares": {"1": 0.5}}, 422, "they add up to 0.5"),
        ("PUT", "/v1/models/films/shares", {"shares": {"1": 2}}, 422, "shares"),
        ("PUT", "/v1/models/films/shadow", {"version": "2"}, 404, "films '2' is not loaded"),
        ("PUT", "/v1/models/films/shadow", {"version": "1"}, 409, "would be compared with itself"),
    ]
    for method, path, body, status, message in refused:
        caplog.clear()
        answer = await client.request(method, path, json=body)
        assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.text
        level = "ERROR" if path.endswith(":load") else "WARNING"  # a bundle's fault, or the caller's
        assert {one.levelname for one in caplog.records if "stay as they are" in one.message} <= {level}
    assert (await client.get("/v1/models")).json() == before


def corrupt(bundle: Path) -> None:
    (bundle / SLATE).write_bytes(b"not a graph")


def of_another_contract(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(manifest | {"contract_version": 99}))


def of_another_name(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(manifest | {"version": "7"}))


def not_finite(bundle: Path) -> None:
    """As a training that diverged leaves it: every hash is right."""
    graph = onnx.load(bundle / SLATE)
    for initializer in graph.graph.initializer:
        if initializer.data_type == onnx.TensorProto.FLOAT and np.prod(initializer.dims) > 1:
            values = np.full_like(numpy_helper.to_array(initializer), np.nan)
            initializer.CopyFrom(numpy_helper.from_array(values, initializer.name))
    onnx.save(graph, bundle / SLATE)
    with np.load(bundle / DECODE) as arrays:
        weights = {name: arrays[name] for name in arrays.files}
    name = next(name for name, array in weights.items() if array.dtype == np.float32 and array.size > 1)
    np.savez(bundle / DECODE, **weights | {name: np.full_like(weights[name], np.nan)})
    manifest = json.loads((bundle / MANIFEST).read_text())
    hashes = manifest["hashes"] | {name: sha256(bundle / name) for name in (SLATE, DECODE)}
    (bundle / MANIFEST).write_text(json.dumps(manifest | {"hashes": hashes}))


@pytest.mark.parametrize(
    ("spoil", "settings", "message"),
    [
        (shutil.rmtree, {}, "no version 2"),
        (corrupt, {}, "does not match its sha256"),
        (of_another_contract, {}, "written under step contract 99"),
        (of_another_name, {}, "holds films 7, not films 2"),
        (not_finite, {}, "not all numbers are finite"),
        (not_finite, {"decoding": "graph"}, "its probabilities are not finite"),
    ],
)
async def test_a_bundle_that_cannot_be_served_is_refused(
    serve: Serve,
    repository: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], None],
    settings: dict[str, Any],
    message: str,
) -> None:
    async with serve(bundle=repository, **settings) as client:
        spoil(repository / "films/2")
        caplog.clear()
        answer = await client.post("/v1/models/films/versions/2:load")
        assert answer.status_code == 422
        assert message in answer.json()["error"]
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert line == f"the models stay as they are: {answer.json()['error']}"
        assert shares(await client.get("/v1/models")) == {"1": 1}
        assert await answered_by(client) == "films 1"


async def test_a_slow_bundle_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(client.service.settings.__dict__, "max_list_ms", 0.001)
    answer = await client.post("/v1/models/films/versions/2:load")
    assert answer.status_code == 422
    assert "films 2: a list of 50 items takes up to" in answer.json()["error"]


async def test_memory_is_bounded(serve: Serve, repository: Path) -> None:
    async with serve(bundle=repository, max_models=2) as client:
        assert (await client.post("/v1/models/films/versions/2:load")).status_code == 200
        answer = await client.post("/v1/models/films/versions/3:load")
        assert (answer.status_code, answer.json()["error_type"]) == (409, "conflict")
        assert "3 models are more than 2; unload some" in answer.json()["error"]


async def test_a_change_is_bounded_in_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.service.changes, "timeout_s", 1e-6)
    answer = await client.post("/v1/models/films/versions/2:load")
    assert (answer.status_code, answer.json()["error_type"]) == (504, "deadline")
    monkeypatch.undo()
    assert shares(await client.post("/v1/models/films/versions/2:load")) == {"1": 1, "2": 0}


async def test_a_bundle_by_itself_has_no_others(serve: Serve, bundle: Path) -> None:
    async with serve() as client:
        answer = await client.post("/v1/models/eglr/versions/2:load")
        assert (answer.status_code, "a bundle by itself" in answer.json()["error"]) == (422, True)
        assert (await client.post("/v1/models:reload")).status_code == 200


async def test_only_who_may_changes_anything(serve: Serve, repository: Path, tmp_path: Path) -> None:
    (key, admins), (other, callers) = new("operator", ["admin"]), new("shop", ["rerank"])
    (tmp_path / "keys.toml").write_text(admins + callers)
    async with serve(bundle=repository, api_keys_file=tmp_path / "keys.toml") as client:
        path = "/v1/models/films/versions/2:load"
        answers = [await client.post(path, headers={"x-api-key": one}) for one in ("", other, key)]
        assert [answer.status_code for answer in answers] == [401, 403, 200]
    async with serve(bundle=repository, host="0.0.0.0", allow_anonymous=True) as client:
        assert (await client.post("/v1/models:reload")).status_code == 404, "strangers may reach it"
    async with serve(bundle=repository, admin_port=1) as client:
        assert (await client.post("/v1/models:reload")).status_code == 404
        async with Client(client.app.state.admin) as inside:
            assert shares(await inside.post("/v1/models:reload")) == {"1": 1}
            assert shares(await inside.get("/v1/models")) == {"1": 1}
