"""API keys: who gets in where, how often, and that keys change without a restart; hosts and origins."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from error_answers import refused
from fastapi import Request
from pydantic import ValidationError
from rerank_client import Client, Serve
from steered_clock import SteeredClock

from service.api import access
from service.api.access import Bucket, caller_of
from service.errors import ForbiddenError, NotFoundError, RateLimitedError, UnauthenticatedError
from service.keys import new
from service.settings import Settings

OPEN = {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}
SCOPES = {
    "/v1/rerank": "rerank",
    "/v1/models/{model}/rerank": "rerank",
    "/v1/models": "rerank",
    "/v2/rerank": "rerank",
    "/v2": "rerank",
    "/v2/models/{name}": "rerank",
    "/v2/models/{name}/ready": "rerank",
    "/v2/models/{name}/versions/{version}": "rerank",
    "/v2/models/{name}/versions/{version}/ready": "rerank",
    "/v1/feedback": "feedback",
    "/v1/users/{user_id}/context": "users",
    "/v1/users/{user_id}/events": "feedback",
    "/metrics": "metrics",
    "/v1/models/{name}/versions/{version}:load": "admin",
    "/v1/models/{name}/versions/{version}:unload": "admin",
    "/v1/models/{name}/shares": "admin",
    "/v1/models/{name}/shadow": "admin",
    "/v1/models/{name}:default": "admin",
    "/v1/models/{name}:rollback": "admin",
    "/v1/models:reload": "admin",
}
BODY = {"items": [{"id": "i1"}, {"id": "i2"}]}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def operations(client: Client) -> list[tuple[str, str]]:
    paths = (await client.get("/openapi.json")).json()["paths"]
    return [(path, method) for path, found in paths.items() for method in found]


async def test_head_needs_the_key_of_get(serve: Serve) -> None:
    (rerank, _), (metrics, _) = keys = new("rerank", ["rerank"]), new("metrics", ["metrics"])
    async with serve(api_keys="".join(lines for _, lines in keys)) as client:
        for path, of, other in ("/v1/models", rerank, metrics), ("/metrics", metrics, rerank):
            assert (await client.head(path)).status_code == 401
            assert (await client.head(path, headers=bearer(other))).status_code == 403
            assert (await client.head(path, headers=bearer(of))).status_code == 200


async def test_every_route_but_health_needs_a_key_and_its_scope(serve: Serve) -> None:
    keys = {scope: new(scope, [scope]) for scope in set(SCOPES.values())}
    async with serve(api_keys="".join(lines for _, lines in keys.values())) as client:
        document = (await client.get("/openapi.json")).json()
        routes = await operations(client)
        assert {path for path, _ in routes} == {*SCOPES, *OPEN}
        schemes = {scheme["scheme" if scheme["type"] == "http" else "name"].lower(): name
                   for name, scheme in document["components"]["securitySchemes"].items()}  # fmt: skip
        assert set(schemes) == {"bearer", "x-api-key"}
        for path, method in routes:
            asked = path.format(model="eglr", name="eglr", version="1", user_id="u")
            security = document["paths"][path][method].get("security")
            if path in OPEN:
                assert security is None
                assert (await client.request(method, asked)).status_code == 200
                continue
            assert sorted(security, key=str) == sorted(
                ({name: [SCOPES[path]]} for name in schemes.values()), key=str
            )
            nobody = await client.request(method, asked)
            assert refused(nobody, UnauthenticatedError)
            assert nobody.headers["www-authenticate"] == "Bearer"
            for scope, (key, _) in keys.items():
                response = await client.request(method, asked, headers=bearer(key))
                if scope == SCOPES[path]:
                    assert response.status_code in (200, 204, 404, 409, 422), path
                else:
                    refused(response, ForbiddenError)
        key = keys["rerank"][0]
        for header, code in (
            ({"x-api-key": key}, 200),
            ({"authorization": f"bearer {key}"}, 200),
            ({"x-api-key": key[:-1]}, 401),
            ({"x-api-key": ""}, 401),
            ({"authorization": f"Basic {key}"}, 401),
            # A gateway's own beside what its caller showed it, in whatever order.
            ({"authorization": "Bearer of the gateway", "x-api-key": key}, 200),
            ({"x-api-key": key, "authorization": "Bearer of the gateway"}, 200),
            ({"authorization": f"Bearer {key}", "x-api-key": "none of ours"}, 401),
        ):
            assert (await client.post("/v1/rerank", json=BODY, headers=header)).status_code == code
        assert (await client.get("/nowhere")).status_code == 404


async def test_what_is_refused_is_counted_and_names_no_key(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    key, lines = new("shop", ["rerank", "metrics"])
    async with serve(api_keys=lines) as client:
        response = await client.post("/v1/rerank", json=BODY, headers=bearer(key + "x"))
        assert key not in response.text
        client.headers.update(bearer(key))
        assert (await client.post("/v1/rerank", json=BODY)).status_code == 200
        assert await client.metric('rerank_requests_total{code="401",endpoint="/v1/rerank"}') == 1
        assert key not in (await client.get("/metrics")).text
        assert key not in repr(client.service.settings)
    assert key not in caplog.text


async def test_keys_change_without_a_restart(
    serve: Serve, tmp_path: Path, clock: SteeredClock, caplog: pytest.LogCaptureFixture
) -> None:
    (old, lines), (young, others) = new("shop", ["rerank"]), new("shop", ["rerank"])
    file = tmp_path / "keys.toml"
    file.write_text(lines)

    async def codes(client: Client) -> list[int]:
        return [
            (await client.post("/v1/rerank", json=BODY, headers=bearer(key))).status_code
            for key in (old, young)
        ]

    async with serve(clock=clock, api_keys_file=file) as client:
        assert await codes(client) == [200, 401]
        both = re.findall('"[0-9a-f]{64}"', lines + others)
        file.write_text(f'[shop]\nsha256 = [{", ".join(both)}]\nscopes = ["rerank"]\n')
        assert await codes(client) == [200, 401], "it is looked at once a second"
        clock.now += access.CHECK_INTERVAL_S
        assert await codes(client) == [200, 200]
        next_ = tmp_path / "next"
        next_.write_text(others)
        os.replace(next_, file)
        clock.now += access.CHECK_INTERVAL_S
        assert await codes(client) == [401, 200]
        for broken in ("[shop", "", '[shop]\nsha256 = ["5"]\nscopes = []\n'):
            file.write_text(broken)
            clock.now += access.CHECK_INTERVAL_S
            assert await codes(client) == [401, 200], "a broken file changes nothing"
        file.unlink()
        clock.now += access.CHECK_INTERVAL_S
        assert await codes(client) == [401, 200]
    assert sum("the API keys are those of before" in message for message in caplog.messages) == 4
    assert old not in caplog.text
    assert young not in caplog.text


async def test_a_key_may_be_limited(serve: Serve, clock: SteeredClock) -> None:
    key, lines = new("shop", ["rerank"])
    free, others = new("free", ["rerank"])
    limited = lines + "requests_per_s = 0.5\nburst = 2\n" + others
    async with serve(clock=clock, api_keys=limited) as client:

        async def ask(key: str) -> Any:
            return await client.post("/v1/rerank", json=BODY, headers=bearer(key))

        assert [(await ask(key)).status_code for _ in range(3)] == [200, 200, 429]
        response = await ask(key)
        refused(response, RateLimitedError)
        assert response.headers["retry-after"] == "2"
        assert {(await ask(free)).status_code for _ in range(5)} == {200}, "others are not affected"
        clock.now += 2.0
        assert [(await ask(key)).status_code for _ in range(2)] == [200, 429]


def test_a_bucket(clock: SteeredClock) -> None:
    bucket = Bucket(10.0, 20.0, clock)
    bucket.take(15)
    with pytest.raises(RateLimitedError) as error:
        bucket.take(10)
    assert error.value.retry_after_s == pytest.approx(0.5)
    bucket.take(5)
    clock.now += 100
    bucket.take(1000)  # more than there ever is: all of it
    with pytest.raises(RateLimitedError):
        bucket.take(1)


async def test_callers_are_told_apart(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """By key, and without keys by connection."""
    seen: list[Any] = []

    async def read_body(request: Request) -> bytes:
        seen.append(caller_of(request))
        raise NotFoundError("enough")

    monkeypatch.setattr("service.api.rerank.read_body", read_body)
    key, lines = new("shop", ["rerank"])
    async with serve(api_keys=lines + "cost_ms_per_s = 100\n") as client:
        await client.post("/v1/rerank", headers=bearer(key))
    async with serve() as client:
        await client.post("/v1/rerank")
    assert [caller.name for caller in seen] == ["shop", ("127.0.0.1", 123)]
    seen[0].charge(0.06)
    with pytest.raises(RateLimitedError):
        seen[0].charge(0.06)
    assert seen[1].cost is None


async def test_a_key_pays_what_its_lists_are_predicted_to_cost(serve: Serve) -> None:
    """A list takes all of a bucket this small, so the next one has to wait, strict or not."""
    key, lines = new("shop", ["rerank"])
    async with serve(api_keys=lines + "cost_ms_per_s = 0.001\ncost_burst_ms = 1.0\n") as client:
        body = {"items": [{"id": f"i{number}"} for number in range(200)], "top_n": 100}
        answers = [await client.post("/v1/rerank", json=body, headers=bearer(key)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert int(answers[1].headers["retry-after"]) > 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"host": "0.0.0.0"}, "host: others may reach 0.0.0.0"),
        ({"host": "::"}, "others may reach ::"),
        ({"host": "service.example.com"}, "others may reach"),
        ({"admin_port": 9, "admin_host": "0.0.0.0"}, "others may reach 0.0.0.0"),
        ({"uds": "s", "admin_port": 9, "admin_host": "0.0.0.0"}, "others may reach 0.0.0.0"),
        ({"api_keys": ""}, "there is no key in it"),
        ({"api_keys": "[shop]"}, "shop.sha256: Field required"),
        ({"api_keys": "[shop"}, "api_keys"),
        ({"api_keys": new("a", ["rerank"])[1].replace("rerank", "rank")}, "a.scopes"),
        ({"api_keys": new("a", ["rerank"])[1] + "requests_per_s = 0"}, "a.requests_per_s"),
        ({"api_keys": new("a", ["rerank"])[1] + "requests_per_s = inf"}, "a.requests_per_s"),
        ({"api_keys_file": "/nowhere/keys"}, "/nowhere/keys"),
    ],
)
def test_what_is_refused_at_the_start(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Settings(bundle="b", **given)
    assert message in str(error.value)


def test_who_may_do_without_keys() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        Settings(bundle="b", host=host)
    Settings(bundle="b", host="0.0.0.0", uds="s")
    Settings(bundle="b", host="0.0.0.0", allow_anonymous=True)
    Settings(bundle="b", host="0.0.0.0", api_keys=new("a", ["rerank"])[1])


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("api.example.com", 200),
        ("API.example.com:8080", 200),
        ("a.b.example.org", 200),
        ("[::1]:8080", 200),
        ("example.org", 400),
        ("evil.com", 400),
        ("api.example.com.evil.com", 400),
        ("", 400),
    ],
)
async def test_hosts(serve: Serve, host: str, code: int) -> None:
    async with serve(allowed_hosts="api.example.com, *.example.org,[::1]") as client:
        response = await client.post("/v1/rerank", json=BODY, headers={"host": host})
        assert response.status_code == code
        if code == 400:
            assert response.json()["error_type"] == "validation"
        assert (await client.get("/livez", headers={"host": host})).status_code == 200


async def test_a_path_before_ours_hides_no_health(serve: Serve) -> None:
    async with serve(allowed_hosts="api.example.com", root_path="/ranking") as client:
        for path, code in {"/ranking/livez": 200, "/livez": 200, "/ranking/v1/models": 400}.items():
            assert (await client.get(path, headers={"host": "evil.com"})).status_code == code


async def test_origins(serve: Serve) -> None:
    asked = {"origin": "https://shop.example.com", "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,content-type"}  # fmt: skip
    async with serve() as client:
        closed = await client.post("/v1/rerank", json=BODY, headers=asked)
        assert "access-control-allow-origin" not in closed.headers
        assert (await client.options("/v1/rerank", headers=asked)).status_code == 405
    async with serve(cors_origins="https://shop.example.com") as client:
        allowed = await client.options("/v1/rerank", headers=asked)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == asked["origin"]
        other = await client.options("/v1/rerank", headers={**asked, "origin": "https://evil.com"})
        assert other.status_code == 400
        answer = await client.post("/v1/rerank", json=BODY, headers=asked)
        assert answer.headers["access-control-allow-origin"] == asked["origin"]
        told = answer.headers["access-control-expose-headers"]
        assert {"x-request-id", "x-ignored-fields", "retry-after"} <= set(told.split(", "))


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"allowed_hosts": host}
            for host in ("a.com:8080", "https://a.com", "a.com/", "*", "*a.com", "[::1")
        ),
        *({"cors_origins": origin} for origin in ("a.com", "https://a.com/", "https://*.a.com", "https://")),
    ],
)
def test_what_no_request_could_have_is_refused_at_the_start(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"expected .*name"):
        Settings(bundle="b", **settings)


def test_names_addresses_and_origins_are_taken() -> None:
    settings = Settings(
        bundle="b",
        allowed_hosts="localhost,10.0.0.1,[2001:db8::1],*.a.com,a_b",
        cors_origins="https://a.com,http://localhost:3000,*,chrome-extension://abc,http://[::1]:8080",
    )
    assert len(settings.allowed_hosts) == len(settings.cors_origins) == 5


async def test_what_is_inside_leaves_the_port_for_callers(serve: Serve) -> None:
    async with serve(admin_port=9) as client:
        refused(await client.get("/metrics"), NotFoundError)
        assert "/metrics" not in (await client.get("/openapi.json")).json()["paths"]
        async with Client(client.app.state.admin) as inside:
            assert "rerank_requests_total" in (await inside.get("/metrics")).text
            refused(await inside.post("/v1/rerank", json=BODY), NotFoundError)
