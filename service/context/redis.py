"""User contexts in Redis, shared by every replica of the service.

Keys, all with a time to live (`<user>` is the percent-encoded id, so that it cannot hold a brace):

    <prefix>{<user>}:context        string, see `encoding`
    <prefix>{<user>}:token          string, random; as long as recommendations with it
    <prefix>{<user>}:events         sorted set of digests of the latest event ids, by time of receipt
    <prefix>recommendation:<name>   string, the sealed user id and marks of items, see `recommendation`

The keys of a user share a hash tag, hence a slot: what must be atomic is one script. A recommendation is
elsewhere on purpose, for feedback knows only its id. A rerank touches both, in one round trip of two
commands, each with an answer of its own: when a full or demoted Redis refuses the writes, what was read
counts. Every key of a user can be named by who knows the user, so forgetting is one DEL, which a full Redis
takes too; and no key that may be evicted is needed to keep the person forgotten.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from math import inf
from time import monotonic, time
from typing import Any
from urllib.parse import quote

from redis.exceptions import ReadOnlyError

from bundle.features.history import UserContext
from service.context import recommendation
from service.context.address import parse_address
from service.context.breaker import CircuitBreaker
from service.context.encoding import decode_context, encode_context, encode_event, newest
from service.context.recommendation import CHECK_LENGTH, Secret
from service.context.redis_client import Command, RedisClient, open_client
from service.context.store import (
    Appended,
    Event,
    Fault,
    Recommended,
    Report,
    StoreLimits,
    appended,
    listed,
    marks_of,
)
from service.context.wire import Wire
from service.errors import StoreUnavailableError, UnknownRecommendationError
from service.settings import Settings

CORRUPT, TOO_LARGE = 1, 2
UNKNOWN = -1
FAULTS: dict[int, Fault] = {CORRUPT: "corrupt", TOO_LARGE: "too_large"}

READ = f"""
local size, context = redis.pcall('STRLEN', KEYS[1]), false
if type(size) ~= 'number' then context = {CORRUPT}
elseif size > tonumber(ARGV[1]) then context = {TOO_LARGE}
elseif size > 0 then context = redis.call('GET', KEYS[1]) end
if not ARGV[2] then return {{context}} end
local token, written = redis.pcall('GET', KEYS[2]), nil
if type(token) == 'string' then written = redis.pcall('PEXPIRE', KEYS[2], ARGV[3])
else
  token = ARGV[2]
  written = redis.pcall('SET', KEYS[2], token, 'PX', ARGV[3])
end
if type(written) == 'table' and written.err then return {{context, false, written.err}} end
return {{context, token}}
"""
"""The context, unless it is beyond the bounds, and the token: the one that is there, else the given one."""

APPEND = f"""
if ARGV[1] ~= '' then
  local token = redis.pcall('GET', KEYS[2])
  if type(token) ~= 'string' then return {UNKNOWN} end
  if string.sub(redis.sha1hex(token .. ARGV[1]), 1, {CHECK_LENGTH}) ~= ARGV[2] then return {UNKNOWN} end
end
local max_count, max_bytes, max_size = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local kind = redis.call('TYPE', KEYS[3]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', KEYS[3]) end

local ids, seen, fresh, repeated = {{}}, {{}}, {{}}, {{}}
for i = 10, #ARGV, 2 do
  local id = ARGV[i]
  if id == '' then
    fresh[#fresh + 1] = ARGV[i + 1]
  elseif not seen[id] and not redis.call('ZSCORE', KEYS[3], id) then
    seen[id] = true
    ids[#ids + 1] = id
    fresh[#fresh + 1] = ARGV[i + 1]
  else
    repeated[#repeated + 1] = (i - 10) / 2
  end
end
if #fresh == 0 then return repeated end

local lines, size = {{}}, redis.pcall('STRLEN', KEYS[1])
if type(size) == 'number' and size > 0 and size <= max_size then
  for line in string.gmatch(redis.call('GET', KEYS[1]), '[^\\n]+') do lines[#lines + 1] = line end
else
  lines[1] = '{{}}'
end
for _, line in ipairs(fresh) do lines[#lines + 1] = line end
local first, bytes = #lines + 1, 0
while first > 2 and #lines - first + 1 < max_count do
  bytes = bytes + #lines[first - 1] + 1
  if bytes > max_bytes then break end
  first = first - 1
end
local kept = table.concat(lines, '\\n', first)
redis.call('SET', KEYS[1], kept == '' and lines[1] or lines[1] .. '\\n' .. kept, 'PX', ARGV[6])
for n, id in ipairs(ids) do redis.call('ZADD', KEYS[3], ARGV[9], id) end
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -tonumber(ARGV[8]) - 1)
redis.call('PEXPIRE', KEYS[3], ARGV[7])
return repeated
"""
"""Append what is new, if the check holds: a person forgotten between the two would come back. An empty
secret needs no check. Returns which events are not new, from 0. The first write is the one that a full Redis
may refuse, so that all is written or nothing."""

DISCARD = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

logger = logging.getLogger(__name__)


class RedisContextStore:
    """A `ContextStore` that gives up quickly, see `wire`."""

    def __init__(
        self,
        client: RedisClient,
        wire: Wire,
        limits: StoreLimits,
        prefix: str,
        report: Report = lambda fault: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._client, self._wire, self._limits, self._prefix = client, wire, limits, prefix
        self._report, self._clock = report, clock
        self._context_ttl_ms = int(limits.context_ttl_s * 1000)
        self._recommendation_ttl_ms = int(limits.recommendation_ttl_s * 1000)
        self._max_bytes = limits.max_profile_bytes + limits.max_history_bytes
        self._reconnected_at = -inf

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        limits: StoreLimits,
        clock: Callable[[], float] = monotonic,
        report: Report = lambda fault: None,
    ) -> "RedisContextStore":
        """`clock` is the circuit breaker's; keys expire by Redis's own."""
        assert settings.redis_url is not None
        connections, connect_s = settings.redis_max_connections, settings.redis_connect_timeout_ms / 1000
        address = parse_address(settings.redis_url)
        wire = Wire(
            CircuitBreaker(
                settings.redis_breaker_calls,
                settings.redis_breaker_error_rate,
                settings.redis_breaker_reset_s,
                clock,
            ),
            connections=connections,
            pool_wait_s=settings.redis_pool_wait_ms / 1000,
            answer_s=settings.redis_socket_timeout_ms / 1000,
            connect_s=connect_s if address.mode == "server" else 2 * connect_s,  # who it is, is asked first
        )
        client = open_client(address, connect_s, connections)
        return cls(client, wire, limits, settings.redis_key_prefix, report, clock)

    @property
    def answers(self) -> bool:
        return self._wire.answers

    async def recommend(self, user_id: str, within_s: float, items: Sequence[str] = ()) -> Recommended:
        secret, ttl = Secret.new(), self._recommendation_ttl_ms
        sealed = secret.seal(user_id, marks_of(items, self._limits.max_listed_items))
        context, token = self._user(user_id, "context"), self._user(user_id, "token")
        (read, recorded) = await self._wire.exchange(
            lambda: self._ask(
                ("EVAL", READ, 2, context, token, self._max_bytes, recommendation.new_token(), ttl),
                ("SET", self._recommendation(secret), sealed, "PX", ttl),
            ),
            within_s,
        )
        found, kept, *refused = read
        known = await self._context(user_id, found)
        if refused or isinstance(recorded, Exception):
            # What was read in the same round trip is as good as ever, so Redis is no less trusted.
            self._report("refused_write")
            if isinstance(recorded, ReadOnlyError) or any(b"READONLY" in text for text in refused):
                await self._reconnect()
            return Recommended(None, known)
        return Recommended(recommendation.issue(secret, kept.decode()), known)

    async def append(self, recommendation_id: str, events: Sequence[Event]) -> Appended:
        parsed = recommendation.parse(recommendation_id)
        if parsed is None:
            raise UnknownRecommendationError()
        secret, check = parsed
        sealed = await self._command("GET", self._recommendation(secret))
        if sealed is None:
            raise UnknownRecommendationError()
        try:
            user_id, marks = secret.unseal(sealed)
        except UnicodeDecodeError:
            raise UnknownRecommendationError() from None
        kept = listed(marks, events)
        repeated = await self._append(user_id, secret, check, [events[index] for index in kept])
        if repeated == UNKNOWN:
            raise UnknownRecommendationError()
        return appended(user_id, len(events), kept, repeated)

    async def add(self, user_id: str, events: Sequence[Event]) -> Appended:
        repeated = await self._append(user_id, "", "", events)
        return appended(user_id, len(events), range(len(events)), repeated)

    async def _append(self, user_id: str, secret: str, check: str, events: Sequence[Event]) -> Any:
        keys = [self._user(user_id, part) for part in ("context", "token", "events")]
        limits = self._limits
        bounds = limits.max_history, limits.max_history_bytes, self._max_bytes
        times = self._context_ttl_ms, self._recommendation_ttl_ms, limits.max_event_ids, int(time() * 1000)
        new = [part for event in events for part in (_digest(event.id), encode_event(event.interaction))]
        return await self._command("EVAL", APPEND, 3, *keys, secret, check, *bounds, *times, *new)

    async def read(self, user_id: str) -> UserContext | None:
        (found,) = await self._command("EVAL", READ, 1, self._user(user_id, "context"), self._max_bytes)
        return await self._context(user_id, found)

    async def replace(self, user_id: str, context: UserContext) -> None:
        await self._command(*self._set(user_id, context))

    async def fill(self, people: Sequence[tuple[str, UserContext]], replace: bool = False) -> int:
        """Put the contexts of many people there in one round trip.

        Args:
            replace: what is known already, too; else it stays as it is.

        Returns:
            Of how many people.

        Raises:
            StoreUnavailableError: some may be there, others not.
        """
        only_new = () if replace else ("NX",)
        commands = [(*self._set(user_id, context), *only_new) for user_id, context in people]
        answers = await self._wire.exchange(lambda: self._ask(*commands))
        for answer in answers:
            if isinstance(answer, Exception):
                raise StoreUnavailableError("Redis refused a command") from answer
        return sum(answer is not None for answer in answers)

    def _set(self, user_id: str, context: UserContext) -> Command:
        kept = encode_context(UserContext(context.profile, newest(context.history, self._limits)))
        return "SET", self._user(user_id, "context"), kept, "PX", self._context_ttl_ms

    async def forget(self, user_id: str) -> None:
        await self._command("DEL", *(self._user(user_id, part) for part in ("context", "token", "events")))

    async def close(self) -> None:
        await self._wire.close()
        await self._client.close()

    async def _command(self, *command: str | bytes | int) -> Any:
        try:
            (answer,) = await self._wire.exchange(lambda: self._ask(command))
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, ReadOnlyError):
                await self._reconnect()
            raise
        return answer

    async def _ask(self, *commands: Command) -> list[Any]:
        """The answers. Raises: ResponseError: the first of them is one."""
        answers = await self._client.together(*commands)
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers

    async def _context(self, user_id: str, found: bytes | int | None) -> UserContext | None:
        """Of a user of whom nothing can be read nothing is known: the loss is that user's alone."""
        if found is None:
            return None
        if not isinstance(found, int):
            try:
                return decode_context(found)
            except ValueError:
                with suppress(StoreUnavailableError):  # else it is what the next events are appended to
                    await self._command("EVAL", DISCARD, 1, self._user(user_id, "context"), found)
                found = CORRUPT
        self._report(FAULTS[found])
        return None

    async def _reconnect(self) -> None:
        """What answers READONLY was the master once, and may not be for ever. At most every second."""
        now = monotonic()
        if now - self._reconnected_at >= 1.0:
            self._reconnected_at = now
            logger.warning("Redis is read-only and is looked for anew")
            await self._client.reconnect()

    def _user(self, user_id: str, part: str) -> str:
        return f"{self._prefix}{{{quote(user_id, safe='')}}}:{part}"

    def _recommendation(self, secret: Secret) -> str:
        return f"{self._prefix}recommendation:{secret.locator}"


def _digest(event_id: str | None) -> bytes:
    return b"" if event_id is None else blake2b(event_id.encode(), digest_size=12).digest()
