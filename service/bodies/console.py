"""What the console is told once: lists to try, and what it may ask for."""

from typing import Annotated, Literal

from pydantic import Field

from service.bodies.common import Body
from service.bodies.rerank import RerankRequest
from service.bodies.users import ContextBody


class ExampleList(Body):
    """A list to try, such as one that a log has: a line of the file that `RERANK_CONSOLE_LISTS` names."""

    name: Annotated[str, Field(min_length=1)]
    request: RerankRequest
    user: ContextBody | None = Field(None, description="What was known of the list's user before it.")
    titles: dict[str, str] = Field(default_factory=dict, description="What items are called, by id.")
    liked: list[str] = Field(default_factory=list, description="Items that were liked, by id.")


class ConsoleLimits(Body):
    """Of what a request may ask for."""

    reasoning_tokens: int
    lookahead: int
    trace_candidates: int
    deadline_ms: float
    default_deadline_ms: float


class ConsoleSetup(Body):
    """What the page begins with."""

    lists: list[ExampleList]
    source: Literal["file", "catalogue"] = Field(description="Where the lists are from.")
    limits: ConsoleLimits
    admin_port: int | None = Field(description="Where /metrics is, if not on the port of the page.")
