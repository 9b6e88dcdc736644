"""`python -m bench.hostile_bodies BUNDLE`: what the worst bodies cost, on every route that takes one.

Each body is as long as `max_body_bytes` allows, or as what is listed of a refused one. CPU is that of the
event loop's thread, which nobody may keep from others; and that of the process, with what long lists and hard
rules take in threads of lower priority, where they are priced, charged and shed. Both are the least of some
requests to the application without a server, for whatever else runs only adds. Memory is the most that Python
had allocated at a time, the body included. Prints a table; docs/performance.md has it.

Long, because its bodies stand in one list.
"""

import argparse
import asyncio
import gc
import json
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from time import process_time, thread_time
from typing import Any, NamedTuple

from bench.payloads import RandomFeatures
from bundle.features.fitting import FittedFeatures
from bundle.manifest import FEATURES
from service.api.decoding import LISTED_BYTES
from service.app import create_app
from service.settings import Settings

RERANK, DOCUMENTS = ("POST", "/v1/rerank"), ("POST", "/v2/rerank")
FEEDBACK, EVENTS = ("POST", "/v1/feedback"), ("POST", "/v1/users/u/events")
CONTEXT = "PUT", "/v1/users/u/context"
MOST_ITEMS = Settings.model_fields["max_items"].default
MOST_RULES = Settings.model_fields["max_rules"].default
MOST_GROUPS = Settings.model_fields["max_limited_groups"].default
ROUNDS, AGAIN, SHOWN = 5, 25, 12

UNITS = (
    "{}",
    "[]",
    '""',
    "0",
    "null",
    "NaN",
    "1e400",
    "[[]]",
    '"\\ud800"',
    '{"a":{}}',
    "12345678901234567890",
)
"""Values that a hostile list is made of."""


class Hostile(NamedTuple):
    """A body made of as many copies of something as fit."""

    name: str
    route: tuple[str, str]
    body: bytes


class Names(NamedTuple):
    """Item features that a model has: a number, words, and every one with a value that fits."""

    number: str
    words: str
    every: Mapping[str, Any]


def names_of(bundle: Path) -> Names:
    """Raises: StopIteration: of a bundle that lacks a number, or words."""
    fitted = FittedFeatures.model_validate_json((bundle / FEATURES).read_bytes())
    fields = fitted.feature_schema.of("item")
    number = next(field.name for field in fields if field.kind == "numeric")
    words = next(field.name for field in fields if field.kind == "multivalued")
    return Names(number, words, RandomFeatures(bundle, seed=0).item())


def hostile(size: int, names: Names, most_values: int) -> Iterator[Hostile]:
    """Bodies of about `size` bytes.

    Args:
        most_values: of the features of a request.
    """
    for route, before, after in (
        (RERANK, '{"items":[', "]}"),
        (RERANK, '{"items":[{"id":"i1","features":{"price":[', "]}}]}"),
        (RERANK, '{"items":[{"id":"i1"}],"features_f32":{"data":"","names":[', "]}}"),
        (RERANK, '{"items":[{"id":"i1"}],"context":{"device":[', "]}}"),
        (RERANK, '{"items":[{"id":"i1"}],"constraints":{"at_most":[', "]}}"),
        (DOCUMENTS, '{"documents":[', "]}"),
        (FEEDBACK, '{"recommendation_id":"r","events":[', "]}"),
        (EVENTS, '{"events":[', "]}"),
        (CONTEXT, '{"history":[', "]}"),
        (CONTEXT, '{"profile":{"taste":[', "]}}"),
    ):
        for unit in UNITS:
            before = before.replace("price", names.number)
            yield Hostile(f"{before}{unit},...", route, _filled(size, before, unit + ",", after))
    for route, before, unit, after in (
        (RERANK, '{"items":[', '{"id":"i1"},', "]}"),
        (RERANK, '{"items":[', '{"id":"i%d"},', "]}"),
        (RERANK, '{"items":[', '{"id":"i%d","features":{"price":"x"}},', "]}"),
        (RERANK, '{"items":[', '{"id":"i%d","features":{"price":1,"genres":["drama"]}},', "]}"),
        (RERANK, '{"items":[', '{"id":"i%d","rank":1},', "]}"),
        (RERANK, '{"items":[{"id":"i1","features":{', '"%d":{},', "}}]}"),
        (RERANK, '{"items":[{"id":"i1","features":{', '"%d":1,', "}}]}"),
        (RERANK, '{"items":[{"id":"i1","features":{', '"%d":"x",', "}}]}"),
        (RERANK, '{"items":[{"id":"i1"}],', '"%d":1,', "}"),
        (RERANK, '{"items":[{"id":"i1"}],"constraints":{"excluded":[', '"%d",', "]}}"),
        (RERANK, '{"items":[{"id":"i1"}],"constraints":{"groups":{', '"%d":["i1"],', "}}}"),
        (RERANK, '{"items":[{"id":"i1"}],"constraints":{"at_least":[', '{"group":"%d","count":9},', "]}}"),
        (RERANK, '{"items":[{"id":"i1"}],', '"top_n":1,', "}"),
        (DOCUMENTS, '{"documents":[', '"i%d",', "]}"),
        (DOCUMENTS, '{"documents":[', '"i1",', "]}"),
        (DOCUMENTS, '{"documents":[', '{"text":"x"},', "]}"),
        (FEEDBACK, '{"recommendation_id":"r","events":[', '{"item_id":"","type":"X"},', "]}"),
        (FEEDBACK, '{"recommendation_id":"r","events":[', '{"item_id":"a","type":"click"},', "]}"),
        (CONTEXT, '{"history":[', '{"item_id":"a","type":"b"},', "]}"),
        (CONTEXT, '{"history":[', '{"item_id":"","type":"","timestamp":false},', "]}"),
        (CONTEXT, '{"profile":{', '"%d":1,', "}}"),
        (CONTEXT, '{"profile":{', '"%d":[{}],', "}}"),
    ):
        unit = unit.replace("price", names.number).replace("genres", names.words)
        yield Hostile(f"{before}{unit}...", route, _filled(size, before, unit, after))
    for name, body in (
        ("[[[...", b"[" * size),
        ('{"a":{"a":...', b'{"a":' * (size // 5)),
        ('{"items":[[[...', b'{"items":' + b"[" * size),
        ("9999...", b'{"top_n":' + b"9" * (size - 10) + b"}"),
        ('"i1i1...', b'{"items":[{"id":"' + b"i1" * (size // 2 - 20) + b'"}]}'),
        ("an unknown key without end", b'{"' + b"k" * (size - 10) + b'":1}'),
        ("blanks", b" " * size),
        ("\\u0000...", b'{"user_id":"' + b"\\u0000" * (size // 6 - 10) + b'"}'),
        ("no UTF-8, at the end", b'{"user_id":"' + b"x" * (size - 20) + b'\xff"}'),
        ("base64 that is none", _matrix(names, "A" * (size - 80) + "?")),
        ("base64 of infinities", _matrix(names, "AACAfwAAgH8AAIB/" * ((size - 80) // 16))),
        ("texts as long as allowed", _texts(size, names)),
        ("one number that is text, in the last item", _items(size, lambda n, last: _mixed(names, n == last))),
        ("numbers that are texts, in every item", _items(size, lambda n, last: _mixed(names, True))),
        ("all the model knows, in every item", _items(size, lambda n, last: names.every)),
        *_ruled(size, most_values),
        *(
            (
                f"as many values as allowed, {word!r}",
                _items(
                    size, lambda n, last, word=word: {names.words: [word] * (most_values // MOST_ITEMS - 2)}
                ),
            )
            for word in ("x", "\u00df", 1, 0.5, 1e300)
        ),
        *(
            (
                f"as many values as allowed, of features nobody knows, {value!r}",
                _items(
                    size,
                    lambda n, last, value=value: {str(k): value for k in range(most_values // MOST_ITEMS)},
                ),
            )
            for value in (1, "x", None, [])
        ),
    ):
        for route in (RERANK, FEEDBACK, CONTEXT) if name in ("[[[...", "blanks", "9999...") else (RERANK,):
            yield Hostile(name, route, body[: size + 1000])


def _filled(size: int, before: str, unit: str, after: str) -> bytes:
    room = size - len(before) - len(after)
    if "%d" in unit:
        copies = [unit % n for n in range(room // (len(unit) + 4))]
    else:
        copies = [unit] * (room // len(unit))
    return (before + "".join(copies).rstrip(",") + after).encode()


def _matrix(names: Names, data: str) -> bytes:
    sent = {"items": [{"id": "i1"}], "features_f32": {"names": [names.number], "data": data}}
    return json.dumps(sent).encode()


def _texts(size: int, names: Names) -> bytes:
    """Every limit on features kept."""
    features = {f"f{n}": ["abc"] * 1024 for n in range(63)} | {names.words: ["drama"] * 1024}
    items = [{"id": f"i{n}", "features": features} for n in range(max(1, size // 1_000_000))]
    return json.dumps({"items": items, "top_n": 1}, separators=(",", ":")).encode()


def _ruled(size: int, most_values: int) -> Iterator[tuple[str, bytes]]:
    """Rules that are hard to judge, within their limits."""
    rng = Random(0)
    for count, top_n in ((50, 30), (MOST_ITEMS, 200)):
        ids = [f"i{n}" for n in range(count)]
        groups = {f"g{n}": rng.sample(ids, 20) for n in range(16)}
        rules = {
            "groups": groups,
            "at_most": [{"group": name, "count": 2, "window": 5} for name in groups],
            "at_least": [{"group": name, "count": 5, "top": 20} for name in list(groups)[:10]],
        }
        body = {"items": [{"id": item_id} for item_id in ids], "constraints": rules, "top_n": top_n}
        yield f"groups of 20 of {count} items that overlap, in windows and in the top", _json(body)
        values = min(MOST_GROUPS, most_values // MOST_ITEMS * count // 3)
        items = [
            {"id": item_id, "features": {"brand": [f"{rng.randrange(values)}" for _ in range(8)]}}
            for item_id in ids
        ]
        yield from _disjoint(ids, top_n)
        for window in ({}, {"window": 3}):
            one_of_each = {"at_most": [{"feature": "brand", "count": 1} | window]}
            body = {"items": items, "constraints": one_of_each, "top_n": top_n}
            yield f"one of each of {values} values that {count} items share {window}", _json(body)


def _disjoint(ids: list[str], top_n: int) -> Iterator[tuple[str, bytes]]:
    """A brand for each item, and fewer brands than positions: limits, floors, and both in conflict."""
    brands = 3 * top_n // 4
    items = [
        {"id": item_id, "features": {"brand": str(n % brands), "any": "x"}} for n, item_id in enumerate(ids)
    ]
    floors = [
        {"feature": "brand", "value": str(brand), "count": 1, "top": top_n - brand}
        for brand in range(min(MOST_RULES - 1, brands, top_n // 2))
    ]
    each = {"feature": "brand", "count": 1}
    for name, rules in (
        ("one of each of", {"at_most": [each]}),
        ("no fewer than one of many of", {"at_least": floors}),
        ("both of", {"at_most": [each | {"count": 2}], "at_least": floors}),
        ("more than one of each of", {"at_most": [each], "at_least": [_all(brands + 1)]}),
    ):
        body = {"items": items, "constraints": rules, "top_n": top_n}
        yield f"{name} {brands} brands, of {len(ids)} items", _json(body)


def _all(count: int) -> dict[str, Any]:
    return {"feature": "any", "value": "x", "count": count}


def _mixed(names: Names, wrong: bool) -> dict[str, Any]:
    return {names.number: "x" if wrong else 1.5, names.words: ["drama"] * 8}


def _items(size: int, features: Callable[[int, int], Mapping[str, Any]]) -> bytes:
    """As many items as fit and are allowed, the features of each by its index and the last one's."""
    room = size - 100
    count = max(1, min(MOST_ITEMS, room // len(_json({"id": "i1000", "features": features(0, 1)}))))
    return _json({"items": [{"id": f"i{n}", "features": features(n, count - 1)} for n in range(count)]})


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


Ask = Callable[[Hostile], Awaitable[tuple[int, bytes]]]


def asking(app: Any) -> Ask:
    """Sends a body to an application, and returns the status and the body of the answer."""

    async def ask(sent: Hostile) -> tuple[int, bytes]:
        method, path = sent.route
        status, answer = 0, b""

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": sent.body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, answer
            status = message.get("status", status)
            answer += message.get("body", b"")

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
        }
        await app(scope, receive, send)
        return status, answer

    return ask


class Cost(NamedTuple):
    name: str
    route: str
    size: int
    status: int
    loop_ms: float
    cpu_ms: float
    memory_mb: float
    answer: int


async def cost(ask: Ask, sent: Hostile, rounds: int = ROUNDS) -> Cost:
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        started, of_all = thread_time(), process_time()
        status, answer = await ask(sent)
        times.append((thread_time() - started, process_time() - of_all))
        if len(times) > 1 and times[0][1] < 0.01:
            break
    gc.collect()
    tracemalloc.start()
    await ask(sent)
    memory = tracemalloc.get_traced_memory()[1] + len(sent.body)
    tracemalloc.stop()
    method, path = sent.route
    least = (1000 * min(column) for column in zip(*times, strict=True))
    return Cost(sent.name, f"{method} {path}", len(sent.body), status, *least, memory / 1e6, len(answer))


async def measure(bundle: Path) -> list[Cost]:
    """Dearest first."""
    # One thread, for two that wait for each other on a busy machine take more.
    settings = Settings(bundle=bundle, default_deadline_ms=10_000, intra_op_threads=1)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        gc.collect()
        gc.freeze()  # as the server does
        ask, names = asking(app), names_of(bundle)
        bodies = [
            body
            for size in (settings.max_body_bytes, LISTED_BYTES)
            for body in hostile(size, names, settings.max_values)
        ]
        sent = [body for body in bodies if len(body.body) <= settings.max_body_bytes]
        first = {body: (await cost(ask, body)).loop_ms for body in sent}
        sent.sort(key=lambda body: -first[body])
        found = [await cost(ask, body, AGAIN if n < SHOWN else ROUNDS) for n, body in enumerate(sent)]
    return sorted(found, key=lambda one: -one.loop_ms)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile_bodies", description=__doc__)
    parser.add_argument("bundle", type=Path)
    found = asyncio.run(measure(parser.parse_args().bundle.resolve()))
    print(f"{len(found)} bodies; the dearest:\n")
    print("| body | route | bytes | status | event loop, ms | all, ms | memory MB | answer, bytes |")
    print("|---|---|---|---|---|---|---|---|")
    for one in found[:SHOWN]:
        print(
            f"| `{one.name}` | {one.route} | {one.size:,} | {one.status} "
            f"| {one.loop_ms:.1f} | {one.cpu_ms:.1f} | {one.memory_mb:.1f} | {one.answer:,} |"
        )
    print(
        f"\nMost of all: {found[0].loop_ms:.1f} ms of the event loop, "
        f"{max(one.cpu_ms for one in found):.1f} ms in all, {max(one.memory_mb for one in found):.1f} MB, "
        f"{max(one.answer for one in found):,} bytes of answer."
    )


if __name__ == "__main__":
    main()
