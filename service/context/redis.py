"""User contexts in Redis, shared by every replica of the service.

Keys, all with a time to live (`<user>` is the percent-encoded id, so that it cannot hold a brace):

    <prefix>{<user>}:profile       string, JSON; there for every user that was put
    <prefix>{<user>}:history       list, one JSON `[item_id, type, timestamp]` an event, oldest first
    <prefix>{<user>}:forgotten     string, when the person was forgotten, kept as long as recommendations
    <prefix>recommendation:<id>    string, JSON `[user_id, made_at]`

The keys of a user share a hash tag, hence a slot: what must be atomic is. A recommendation is elsewhere
on purpose, for feedback knows only its id; a rerank touches both in one pipeline that is no transaction,
which a Redis Cluster splits over at most two nodes, at the same time.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic, time
from typing import TypeVar
from urllib.parse import quote

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bundle.features.history import Interaction, UserContext
from service.context.breaker import CircuitBreaker
from service.context.store import StoreLimits
from service.errors import StoreUnavailableError, UnknownRecommendationError
from service.settings import Settings

Returned = TypeVar("Returned")

APPEND = """
local forgotten = redis.call('GET', KEYS[3])
if forgotten and tonumber(forgotten) >= tonumber(ARGV[1]) then return 0 end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 4))
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[2]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""
"""Append unless forgotten. A script and no MULTI: a person forgotten between the check and the append
would come back."""

logger = logging.getLogger(__name__)


class RedisContextStore:
    """A `ContextStore` that gives up quickly: short timeouts, no retry, and a circuit breaker."""

    waits = True

    def __init__(self, client: "Redis", breaker: CircuitBreaker, limits: StoreLimits, prefix: str) -> None:
        self._client, self._breaker, self._limits, self._prefix = client, breaker, limits, prefix
        self._context_ttl_ms = int(limits.context_ttl_s * 1000)
        self._recommendation_ttl_ms = int(limits.recommendation_ttl_s * 1000)

    @classmethod
    def from_settings(
        cls, settings: Settings, limits: StoreLimits, clock: Callable[[], float] = monotonic
    ) -> "RedisContextStore":
        """`clock` is the circuit breaker's; keys expire by Redis's own."""
        assert settings.redis_url is not None
        pool = BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=settings.redis_max_connections,
            timeout=settings.redis_pool_wait_ms / 1000,
            socket_timeout=settings.redis_socket_timeout_ms / 1000,
            socket_connect_timeout=settings.redis_connect_timeout_ms / 1000,
            retry=Retry(NoBackoff(), 0),  # the library's default tries ten times
            protocol=2,
        )
        breaker = CircuitBreaker(settings.redis_breaker_failures, settings.redis_breaker_reset_s, clock)
        return cls(Redis.from_pool(pool), breaker, limits, settings.redis_key_prefix)

    async def recommend(self, recommendation_id: str, user_id: str | None) -> UserContext | None:
        pipe = self._client.pipeline(transaction=False)
        made = json.dumps([user_id, time()])
        pipe.set(self._recommendation(recommendation_id), made, px=self._recommendation_ttl_ms)
        if user_id is None:
            await self._call(pipe.execute)
            return None
        _, profile, history = await self._call(self._reading(pipe, user_id).execute)
        return _context(profile, history)

    async def append(self, recommendation_id: str, events: Sequence[Interaction]) -> int:
        made = await self._call(lambda: self._client.get(self._recommendation(recommendation_id)))
        if made is None:
            raise UnknownRecommendationError()
        user_id, made_at = json.loads(made)
        if user_id is None:
            return 0
        keys = [self._user(user_id, part) for part in ("history", "profile", "forgotten")]
        values: list[str | int] = [
            repr(made_at),
            self._limits.max_history,
            self._context_ttl_ms,
            *map(_event, events),
        ]
        if not await self._call(lambda: self._client.eval(APPEND, len(keys), *keys, *values)):
            raise UnknownRecommendationError()
        return len(events)

    async def read(self, user_id: str) -> UserContext | None:
        pipe = self._client.pipeline(transaction=True)
        return _context(*await self._call(self._reading(pipe, user_id).execute))

    async def replace(self, user_id: str, context: UserContext) -> None:
        history, profile = self._user(user_id, "history"), self._user(user_id, "profile")
        pipe = self._client.pipeline(transaction=True)
        pipe.set(profile, json.dumps(dict(context.profile)), px=self._context_ttl_ms)
        pipe.delete(history)
        newest = context.history[-self._limits.max_history :]
        if newest:
            pipe.rpush(history, *map(_event, newest))
            pipe.pexpire(history, self._context_ttl_ms)
        await self._call(pipe.execute)

    async def forget(self, user_id: str) -> None:
        pipe = self._client.pipeline(transaction=True)
        pipe.delete(self._user(user_id, "history"), self._user(user_id, "profile"))
        pipe.set(self._user(user_id, "forgotten"), repr(time()), px=self._recommendation_ttl_ms)
        await self._call(pipe.execute)

    async def close(self) -> None:
        await self._client.aclose(close_connection_pool=True)

    def _reading(self, pipe: "Pipeline", user_id: str) -> "Pipeline":
        pipe.get(self._user(user_id, "profile"))
        pipe.lrange(self._user(user_id, "history"), 0, -1)
        return pipe

    async def _call(self, call: Callable[[], Awaitable[Returned]]) -> Returned:
        """One round trip through the breaker.

        Raises:
            StoreUnavailableError: Redis did not answer, or answered with an error.
        """
        if not self._breaker.allows():
            raise StoreUnavailableError("Redis is left alone after failing repeatedly")
        try:
            answer = await call()
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            if self._breaker.failed():
                logger.warning("Redis is left alone: %s", type(error).__name__)
            raise StoreUnavailableError("Redis does not answer") from error
        except RedisError as error:
            logger.warning("Redis refused a command: %s", type(error).__name__)
            raise StoreUnavailableError("Redis refused a command") from error
        if self._breaker.succeeded():
            logger.warning("Redis answers again")
        return answer

    def _user(self, user_id: str, part: str) -> str:
        return f"{self._prefix}{{{quote(user_id, safe='')}}}:{part}"

    def _recommendation(self, recommendation_id: str) -> str:
        return f"{self._prefix}recommendation:{recommendation_id}"


def _event(event: Interaction) -> str:
    return json.dumps([event.item_id, event.type, event.timestamp])


def _context(profile: bytes | None, history: list[bytes]) -> UserContext | None:
    if profile is None and not history:
        return None
    events = json.loads(b"[" + b",".join(history) + b"]")
    return UserContext(json.loads(profile) if profile else {}, tuple(Interaction(*event) for event in events))
