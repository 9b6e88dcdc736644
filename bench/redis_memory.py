"""`python -m bench.redis_memory`: what a user and a recommendation take in Redis, by MEMORY USAGE.

Writes nothing; docs/serving.md has the figures.
"""

import asyncio
from collections.abc import Iterator

from bundle.features.history import Interaction, UserContext
from launch.redis import RedisServer
from service.context.redis import RedisContextStore
from service.context.store import Event, StoreLimits
from service.settings import Settings

HISTORIES = (0, 20, 200)
LISTS = 1000
USER = "user-00001234"


async def measure(server: RedisServer) -> Iterator[tuple[str, float]]:
    settings = Settings(bundle="unused", redis_url=server.url, redis_socket_timeout_ms=10_000)  # type: ignore[arg-type]
    store = RedisContextStore.from_settings(
        settings, StoreLimits(settings.context_ttl_s, settings.recommendation_ttl_s, settings.max_history)
    )

    def used(pattern: str) -> float:
        sizes = [server.client.memory_usage(key, samples=0) for key in server.client.keys(pattern)]
        return sum(sizes) / max(1, len(sizes))

    found = []
    for count in HISTORIES:
        events = (Interaction(f"item-{n:06}", "click", 1_700_000_000.5 + n) for n in range(count))
        await store.replace(USER, UserContext({"age_group": "25-34", "plan": "free"}, tuple(events)))
        found.append((f"context of a user, {count} events", used("*:context")))
    for items in ([], [f"item-{n:06}" for n in range(50)]):
        server.client.delete(*(server.client.keys("*recommendation:*") or ["none"]))
        made = [await store.recommend(USER, 10, items) for _ in range(LISTS)]
        found.append((f"recommendation of {len(items)} items, mean of {LISTS}", used("*recommendation:*")))
    found.append(("token of a user who was recommended something", used("*:token")))
    for count in (20, 1000):
        sent = [Event(Interaction("item-000000", "click", 1.5), f"event {n}") for n in range(count)]
        assert made[0].id is not None
        await store.append(made[0].id, sent)
        found.append((f"event ids of a user, {count}", used("*:events")))
    before = server.client.dbsize()
    await store.close()
    found.append(("list of nobody", float(server.client.dbsize() - before)))
    return iter(found)


def main() -> None:
    with RedisServer() as server:
        version = server.client.info("server")["redis_version"]
        print(f"Redis {version}, bytes:")
        for name, size in asyncio.run(measure(server)):
            print(f"  {name:48} {size:8,.0f}")


if __name__ == "__main__":
    main()
