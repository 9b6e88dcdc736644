"""How a body may come: its media type, its encoding, in parts; and that HEAD is GET without one."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from time import process_time

import pytest
from error_answers import faulty_fields, refused
from rerank_client import Client, Serve

from service.errors import BodyTooLargeError, UnsupportedMediaError

BODY = json.dumps({"items": [{"id": "i1"}, {"id": "i2"}]}).encode()
LIMIT = 100_000

ROUTES = ["/v1/rerank", "/v1/models/eglr/rerank", "/v1/feedback", "/v1/users/u/context"]


async def status(client: Client, content: bytes, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await client.post("/v1/rerank", content=content, headers=named)).status_code


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON; charset=UTF-8", "application/vnd.site.v1+json", None],
)
async def test_json_is_taken_whatever_it_is_called(client: Client, media_type: str | None) -> None:
    headers = {} if media_type is None else {"content_type": media_type}
    assert await status(client, BODY, **headers) == 200


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/json; charset=utf-16",
        "",
    ],
)
async def test_other_media_types_get_415(client: Client, route: str, media_type: str) -> None:
    method = "PUT" if route.endswith("context") else "POST"
    answer = await client.request(method, route, content=BODY, headers={"content-type": media_type})
    refused(answer, UnsupportedMediaError)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "identity"])
async def test_gzip_is_understood(client: Client, encoding: str) -> None:
    content = BODY if encoding == "identity" else gzip.compress(BODY)
    assert await status(client, content, content_encoding=encoding) == 200


@pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip", "none"])
async def test_other_encodings_get_415(client: Client, encoding: str) -> None:
    answer = await client.post("/v1/rerank", content=BODY, headers={"content-encoding": encoding})
    refused(answer, UnsupportedMediaError)


@pytest.mark.parametrize(
    "content",
    [BODY, b"", gzip.compress(BODY)[:-1], gzip.compress(BODY) + b"x", zlib.compress(BODY)],
    ids=["plain", "empty", "cut", "followed", "zlib"],
)
async def test_what_is_no_gzip_is_said_to_be_none(client: Client, content: bytes) -> None:
    answer = await client.post("/v1/rerank", content=content, headers={"content-encoding": "gzip"})
    assert set(faulty_fields(answer)) == {"body"}


@pytest.mark.parametrize(("spaces", "expected"), [(LIMIT - len(BODY), 200), (LIMIT - len(BODY) + 1, 413)])
async def test_the_limit_is_of_what_was_packed(serve: Serve, spaces: int, expected: int) -> None:
    async with serve(max_body_bytes=LIMIT) as client:
        content = gzip.compress(BODY + b" " * spaces)
        assert await status(client, content, content_encoding="gzip") == expected


async def test_a_bomb_is_not_unpacked(client: Client) -> None:
    """128 MB in half of one: refused for less than what half of it would take."""
    packing = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    part = b" " * 16_777_216
    bomb = b"".join(packing.compress(part) for _ in range(8)) + packing.flush()
    begun = process_time()
    zlib.decompress(bomb, wbits=zlib.MAX_WBITS | 16)
    whole = process_time() - begun
    begun = process_time()
    answer = await client.post("/v1/rerank", content=bomb, headers={"content-encoding": "gzip"})
    refused(answer, BodyTooLargeError)
    assert process_time() - begun < whole / 2


async def test_a_body_may_come_in_parts(serve: Serve) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(BODY), 5):
            yield BODY[at : at + 5]

    async with serve() as client:
        assert (await client.post("/v1/rerank", content=parts())).status_code == 200
        assert client.service.held_bytes == 0


async def test_head_is_answered_as_get(client: Client) -> None:
    declared = (await client.get("/openapi.json")).json()["paths"]
    paths = [path for path, methods in declared.items() if "get" in methods]
    paths += ["/docs", "/docs/page.js", "/openapi.json", "/console", "/console/setup", "/console/none.js"]
    assert {"/livez", "/metrics", "/v1/models", "/v1/users/{user_id}/context"} <= set(paths)
    client.service.draining = True
    for path in paths:
        asked = path.format(user_id="u", name="eglr", version="1")
        get, head = await client.get(asked), await client.head(asked)
        alike = {"content-type", "cache-control", "content-security-policy"} & get.headers.keys()
        assert head.status_code == get.status_code, path
        assert {name: head.headers.get(name) for name in alike} == {name: get.headers[name] for name in alike}
        assert path == "/metrics" or head.headers["content-length"] == get.headers["content-length"]


async def test_head_is_refused_where_there_is_no_get(client: Client) -> None:
    for path, status in {"/v1/rerank": 405, "/v1/feedback": 405, "/nowhere": 404}.items():
        answer = await client.head(path)
        assert answer.status_code == status
        assert "HEAD" not in answer.headers.get("allow", "")


async def test_documentation_behind_a_proxy_finds_its_document(serve: Serve) -> None:
    """Whether or not the proxy strips its prefix."""
    async with serve(root_path="/ranking") as client:
        for prefix in ("", "/ranking"):
            page = (await client.get(f"{prefix}/docs")).text
            assert 'src="docs/page.js"' in page
            assert "url: 'openapi.json'" in (await client.get(f"{prefix}/docs/page.js")).text, "beside it"
            document = (await client.get(f"{prefix}/openapi.json")).json()
            assert document["servers"] == [{"url": "/ranking"}]
            assert (await client.post(f"{prefix}/v1/rerank", content=BODY)).status_code == 200
            assert (await client.get(f"{prefix}/livez")).status_code == 200
        assert await client.metric('rerank_requests_total{endpoint="/v1/rerank"}') == 2
