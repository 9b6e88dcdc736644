"""Profiles and histories from a file into Redis, so that a service starts knowing its people.

    python -m model.data histories my.jsonl.gz --config my.toml --out histories.jsonl.gz
    python -m service.load_histories histories.jsonl.gz --redis-url redis://127.0.0.1:6379/0

A line is a person: `user_id`, and what the body of `PUT /v1/users/{id}/context` holds. Who is in Redis
already is left alone, for what a service has seen since is newer; so whatever was stopped is started again.
Prefix, bounds and times to live are the service's settings, `RERANK_*` in the environment.
"""

import argparse
import asyncio
import gzip
import sys
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from bundle.errors import RerankerError, in_a_line
from bundle.features.history import UserContext
from service.api.decoding import parse
from service.api.validation import check_context, check_user_id
from service.bodies.common import Id
from service.bodies.users import ContextBody, interaction
from service.context.redis import RedisContextStore
from service.context.store import StoreLimits
from service.errors import InvalidRequestError, StoreUnavailableError
from service.settings import Settings

TOGETHER = 200
"""People in one round trip."""

PATIENCE_MS = 10_000.0
"""How long Redis has to take them: nobody waits for a list meanwhile."""


class Person(ContextBody):
    """A line."""

    user_id: Id


class HistoriesError(RerankerError):
    """A line that is none; the message names file, line and field."""


class Loaded(NamedTuple):
    """How many people were put into the store, and how many were there already."""

    written: int
    known: int


async def load(path: Path, settings: Settings, replace: bool = False) -> Loaded:
    """Put everybody of a file into the store.

    Args:
        replace: those who are there, too.

    Raises:
        HistoriesError, StoreUnavailableError: those of earlier lines are there.
    """
    store = RedisContextStore.from_settings(settings, StoreLimits.from_settings(settings))
    people, written, read = _people(path, settings), 0, 0
    try:
        while together := list(islice(people, TOGETHER)):
            written += await store.fill(together, replace)
            read += len(together)
    finally:
        await store.close()
    return Loaded(written, read - written)


def _people(path: Path, settings: Settings) -> Iterator[tuple[str, UserContext]]:
    """Raises: HistoriesError."""
    with path.open("rb") as file:
        for line, text in enumerate(_lines(path, file), start=1):
            if not text.strip():
                continue
            try:
                person = parse(Person, text)
                check_user_id("user_id", person.user_id, settings)
                check_context(person, settings)
            except InvalidRequestError as error:
                told = "; ".join(f"{field}: {message}" for field, message in error.faults)
                raise HistoriesError(f"{path}:{line}: {told}") from None
            history = person.history[-settings.max_history :]
            events = tuple(interaction(event) for event in history)
            yield person.user_id, UserContext(person.profile, events)


def _lines(path: Path, file: BufferedReader) -> Iterator[bytes]:
    """Of a file that is gzip, or is not, whatever its name. Raises: HistoriesError: it is damaged."""
    try:
        yield from gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HistoriesError(f"{path}: damaged gzip: {error}") from None


def main(arguments: Sequence[str]) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m service.load_histories",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("histories", type=Path, help="file of JSON lines, gzip or plain")
    parser.add_argument("--redis-url", help="of the service's Redis; RERANK_REDIS_URL if absent")
    parser.add_argument("--replace", action="store_true", help="put this in the place of what is there")
    given = parser.parse_args(arguments)
    address: dict[str, Any] = {"redis_url": given.redis_url} if given.redis_url else {}
    try:
        settings = Settings(
            bundle=Path(),  # there is none
            redis_socket_timeout_ms=PATIENCE_MS,
            redis_connect_timeout_ms=PATIENCE_MS,
            redis_max_connections=TOGETHER,  # a cluster takes one for each
            **address,
        )
        if settings.redis_url is None:
            parser.error("--redis-url, or RERANK_REDIS_URL, is needed")
        found = asyncio.run(load(given.histories, settings, given.replace))
    except ValidationError as error:
        print(in_a_line(error), file=sys.stderr)
        return 2
    except StoreUnavailableError as error:
        print(f"{error} ({error.__cause__}); start it again to go on", file=sys.stderr)
        return 1
    except (HistoriesError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{found.written} people put into Redis, {found.known} were there and left as they were")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
