"""The console as it is served: by whom it can be reached, what it may load, and the lists it offers."""

import hashlib
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from error_answers import refused
from pydantic import ValidationError
from rerank_client import Client, Serve

from service.api.console import FOLDER
from service.api.static_page import MEDIA_TYPES
from service.errors import ForbiddenError, UnauthenticatedError
from service.keys import new
from service.settings import Settings

FILES = [path for path in FOLDER.rglob("*") if path.is_file()]
OURS = [path for path in FILES if path.parent == FOLDER]


async def test_the_page_and_all_it_names_are_served(client: Client) -> None:
    page = await client.get("/console")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:href|src)="([^"]+)"', page.text)) | set(
        re.findall(r'"\./([^"]+)"', page.text)
    )
    loaded = {f"console/{path}" for file in OURS for path in re.findall(r"from '\./(\S+)'", file.read_text())}
    assert {"console/main.js", "console/vendor/preact.mjs", "console/chart.js"} < named | loaded
    for path in named | loaded:
        answer = await client.get(f"/{path}")
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].split(";")[0] == MEDIA_TYPES[Path(path).suffix]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content == (FOLDER.parent / path).read_bytes()


async def test_nothing_comes_from_elsewhere(client: Client) -> None:
    page = await client.get("/console")
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    (inside,) = re.findall(r'<script type="importmap">(.+?)</script>', page.text, re.DOTALL)
    digest = b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    assert policy == {
        "default-src": "'self'",
        "script-src": f"'self' 'sha256-{digest}'",
        **dict.fromkeys(("object-src", "base-uri", "form-action", "frame-ancestors"), "'none'"),
    }
    for file in OURS:
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert "://" not in text, file.name
        asked = r"(?:href|src)=./|call\(./"
        assert not re.findall(asked, text), f"{file.name}: not below a proxy's path"


@pytest.mark.parametrize(
    ("settings", "served"),
    [
        ({}, True),
        ({"console": False}, False),
        ({"host": "0.0.0.0", "allow_anonymous": True}, False),
        ({"host": "0.0.0.0", "allow_anonymous": True, "console": True}, True),
        ({"uds": "socket"}, False),
    ],
)
async def test_who_is_offered_it(serve: Serve, settings: dict[str, Any], served: bool) -> None:
    async with serve(**settings) as client:
        for path in ("/console", "/console/main.js", "/console/setup"):
            assert (await client.get(path)).status_code == (200 if served else 404)


@pytest.mark.parametrize(
    "path",
    ["", "nothing.js", "vendor/vendored.json", "vendor/LICENSE.htm", "../settings.py", "%2e%2e/settings.py"],
)
async def test_only_its_files_are_served(client: Client, path: str) -> None:
    assert (await client.get(f"/console/{path}")).status_code == 404


async def test_the_page_is_open_and_what_it_shows_is_not(serve: Serve) -> None:
    (weak, lines), (key, more) = new("weak", ["feedback"]), new("able", ["rerank"])
    async with serve(api_keys=lines + more) as client:
        assert (await client.get("/console")).status_code == 200
        assert refused(await client.get("/console/setup"), UnauthenticatedError)
        assert refused(await client.get("/console/setup", headers={"x-api-key": weak}), ForbiddenError)
        assert (await client.get("/console/setup", headers={"x-api-key": key})).status_code == 200


async def test_lists_of_the_catalogue_can_be_ranked(serve: Serve) -> None:
    async with serve(max_trace_candidates=4, max_deadline_ms=500, default_deadline_ms=400) as client:
        setup = (await client.get("/console/setup")).json()
        assert setup["source"] == "catalogue"
        assert setup["limits"] == {
            **{"reasoning_tokens": 8, "lookahead": 4, "trace_candidates": 4},
            **{"deadline_ms": 500.0, "default_deadline_ms": 400.0},
        }
        assert len({json.dumps(one["request"]) for one in setup["lists"]}) == len(setup["lists"]) == 8
        for one in setup["lists"]:
            answer = (await client.post("/v1/rerank", json=one["request"] | {"deadline_ms": 500})).json()
            assert answer["missing_ids"] == []
        assert (await client.get("/console/setup")).json() == setup


async def test_lists_of_a_file_are_offered_as_they_are(serve: Serve, tmp_path: Path) -> None:
    lists = [
        {"name": "one", "request": {"items": [{"id": "i1", "features": {"price": 2.5}}], "top_n": 1}},
        {
            "name": "two",
            "request": {"items": [{"id": "x"}], "user_id": "u1"},
            "user": {"profile": {"age": 30}, "history": [{"item_id": "i2", "type": "click"}]},
            "titles": {"x": "X"},
            "liked": ["x"],
        },
    ]
    (tmp_path / "lists.jsonl").write_text("\n\n".join(json.dumps(one) for one in lists))
    async with serve(console_lists=tmp_path / "lists.jsonl") as client:
        setup = (await client.get("/console/setup")).json()
        assert (setup["lists"], setup["source"]) == (lists, "file")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "there is no list in it"),
        ('{"name": "a", "request": {"items": [{"id": "i"}]}}\n{', ":2: body: "),
        ('\n{"name": "a", "request": {"items": []}}', ":2: request.items: "),
        ('{"name": "a", "request": {"items": [{"id": "i"}], "topn": 1}}', ":1: request.topn: unknown field"),
        ('{"request": {"items": [{"id": "i"}]}}', ":1: name: field required"),
    ],
)
def test_a_fault_of_the_file_is_told_by_line(text: str | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValidationError, match=re.escape(f"{path}") + ".*" + re.escape(told)):
        Settings(bundle="b", console_lists=path)
