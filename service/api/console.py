"""The console: a page of this service that asks it, `service/console/`, and the lists that it offers to try.

The page is as open as `/docs`: it holds nothing but itself. What it shows it asks for with its visitor's key.
"""

import hashlib
import random
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from service.api.access import ACCESS_ERRORS, needs
from service.api.answers import declared
from service.api.decoding import parse
from service.api.request import service_of
from service.bodies import console as bodies
from service.bodies.console import ConsoleSetup, ExampleList
from service.bodies.twins import twin
from service.errors import InvalidRequestError
from service.settings import Settings

FOLDER = Path(__file__).parents[1] / "console"
PAGE = "index.html"
MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}

DRAWN, OF = 8, 24
"""Lists drawn where no file has any, and how many items of the catalogue each has."""

Setup, Limits, Example = twin(ConsoleSetup), twin(bodies.ConsoleLimits), twin(ExampleList)


class _File(NamedTuple):
    content: bytes
    headers: Mapping[str, str]

    def answer(self) -> Response:
        return Response(self.content, headers=self.headers)


def read_lists(path: Path) -> list[ExampleList]:
    """Lists of a file of JSON lines.

    Raises:
        ValueError: it cannot be read, or a line is no list; which, and why.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    lists = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            lists.append(parse(ExampleList, line))
        except InvalidRequestError as error:
            faults = "; ".join(f"{fault.field}: {fault.message}" for fault in error.faults)
            raise ValueError(f"{path}:{number}: {faults}") from None
    if not lists:
        raise ValueError(f"{path}: there is no list in it")
    return lists


def router(settings: Settings) -> APIRouter:
    """The console's routes.

    Raises:
        ValueError: by `read_lists`.
    """
    routes = APIRouter(include_in_schema=False)
    files = _files()
    given = None if settings.console_lists is None else read_lists(settings.console_lists)

    @routes.get("/console")
    async def page() -> Response:
        """The page."""
        return files[PAGE].answer()

    @routes.get("/console/setup", dependencies=[needs("rerank")], responses=declared(*ACCESS_ERRORS))
    async def setup(request: Request) -> Response:
        """As `ConsoleSetup`."""
        models = service_of(request).models
        ids = models.get().model.features.catalogue.ids if models else []
        told = Setup(
            lists=_drawn(ids) if given is None else given,
            source="catalogue" if given is None else "file",
            limits=Limits(
                reasoning_tokens=settings.max_reasoning_tokens,
                lookahead=settings.max_lookahead,
                trace_candidates=settings.max_trace_candidates,
                deadline_ms=settings.max_deadline_ms,
                default_deadline_ms=settings.default_deadline_ms,
            ),
            admin_port=settings.admin_port,
        )
        return Response(msgspec.json.encode(told), media_type="application/json")

    @routes.get("/console/{name:path}", responses={404: {}})
    async def file(name: str) -> Response:
        """A file that the page needs."""
        if name not in files:
            raise HTTPException(404)
        return files[name].answer()

    return routes


def _files() -> Mapping[str, _File]:
    """The page and what it loads, by path, as they are answered."""
    page = (FOLDER / PAGE).read_text()
    security = {
        "content-security-policy": _policy(page),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return {
        path.relative_to(FOLDER).as_posix(): _File(
            path.read_bytes(), security | {"content-type": f"{MEDIA_TYPES[path.suffix]}; charset=utf-8"}
        )
        for path in FOLDER.rglob("*")
        if path.suffix in MEDIA_TYPES
    }


def _policy(page: str) -> str:
    """Nothing from elsewhere, and no script in the page but its map of modules, known by its hash."""
    inside = re.findall(r"<script[^>]*>(.+?)</script>", page, re.DOTALL)
    hashes = [b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inside]
    scripts = " ".join(["'self'", *(f"'sha256-{one}'" for one in hashes)])
    nowhere = "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"default-src 'self'; script-src {scripts}; {nowhere}"


def _drawn(ids: Sequence[str]) -> list[ExampleList]:
    """Random items of a catalogue: the same at every start."""
    draw = random.Random(0)
    size = min(OF, len(ids))
    return [
        msgspec.convert(
            {
                "name": f"{size} items of the catalogue, draw {number}",
                "request": {"items": [{"id": item} for item in draw.sample(ids, size)]},
            },
            Example,
        )
        for number in range(1, DRAWN + 1)
        if size
    ]
