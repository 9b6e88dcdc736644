"""The console: a page of this service that asks it, `service/console/`, and the lists that it offers to try.

The page is as open as `/docs`: it holds nothing but itself. What it shows it asks for with its visitor's key.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
from fastapi import APIRouter, Request, Response

from service.api.access import ACCESS_ERRORS, needs
from service.api.answers import declared
from service.api.decoding import parse
from service.api.request import service_of
from service.api.static_page import StaticPage
from service.bodies import console as bodies
from service.bodies.console import ConsoleSetup, ExampleList
from service.bodies.twins import twin
from service.errors import InvalidRequestError
from service.settings import Settings

FOLDER = Path(__file__).parents[1] / "console"

DRAWN, OF = 8, 24
"""Lists drawn where no file has any, and how many items of the catalogue each has."""

Setup, Limits, Example = twin(ConsoleSetup), twin(bodies.ConsoleLimits), twin(ExampleList)


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
    page = StaticPage(FOLDER)
    given = None if settings.console_lists is None else read_lists(settings.console_lists)

    @routes.get("/console")
    async def index() -> Response:
        """The page."""
        return page.answer()

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
        return page.answer(name)

    return routes


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
