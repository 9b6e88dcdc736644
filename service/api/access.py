"""Who may call which route: API keys with scopes and limits. Without keys everybody may.

A key comes as `X-API-Key: KEY`, or else as `Authorization: Bearer KEY`. Callers are told apart by the name
that their key has, without keys by their connections: `caller_of(request)` says whose a request is, and how
much work it may still ask for.
"""

import hmac
import logging
from collections.abc import Callable, Hashable, Mapping
from time import monotonic
from typing import Annotated, Any, NamedTuple, cast

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes

from service.api.request import service_of
from service.errors import ForbiddenError, RateLimitedError, UnauthenticatedError
from service.keys import Grant, KeysError, Scope, digest, read_grants
from service.settings import Settings

CHECK_INTERVAL_S = 1.0
"""The file of keys is looked at no more often."""

logger = logging.getLogger(__name__)


class Bucket:
    """What may be taken at once, and how fast there is more of it."""

    def __init__(self, per_s: float, burst: float | None, clock: Callable[[], float]) -> None:
        self._per_s, self._burst, self._clock = per_s, max(burst or per_s, 1.0), clock
        self._left, self._at = self._burst, clock()

    def take(self, amount: float = 1.0) -> None:
        """Take so much, or all that a full bucket has.

        Raises:
            RateLimitedError: it is not there yet. Nothing was taken.
        """
        now = self._clock()
        self._left, self._at = min(self._burst, self._left + (now - self._at) * self._per_s), now
        amount = min(amount, self._burst)
        if self._left < amount:
            raise RateLimitedError((amount - self._left) / self._per_s)
        self._left -= amount


class Caller(NamedTuple):
    """Whose a request is.

    Attributes:
        name: what a caller's requests have in common, for fairness.
        cost: predicted milliseconds of inference that are left; None is no limit.
    """

    name: Hashable
    digests: tuple[str, ...] = ()
    scopes: frozenset[Scope] = frozenset()
    requests: Bucket | None = None
    cost: Bucket | None = None

    def charge(self, seconds: float) -> None:
        """Take so much predicted inference. Raises: RateLimitedError: it may not ask for that yet."""
        if self.cost is not None:
            self.cost.take(1000 * seconds)


class Access:
    """The keys that are let in. The file is read again when it has changed; one that is at fault, or gone,
    changes nothing, and is logged."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        """Raises: KeysError."""
        self._file, self._clock = settings.api_keys_file, clock
        self._grants: Mapping[str, Grant] = {}
        self._callers: dict[str, Caller] = {}
        self._seen, self._looked_at = self._state(), clock()
        self.open = settings.api_keys_file is None and settings.api_keys is None
        if not self.open:
            text = None if settings.api_keys is None else settings.api_keys.get_secret_value()
            self._let_in(read_grants(self._file, text))

    def caller(self, request: Request, scope: Scope) -> Caller:
        """Who has sent a request that needs a scope.

        Raises:
            UnauthenticatedError, ForbiddenError, RateLimitedError
        """
        if self.open:
            return Caller(request.scope.get("client"))
        self._look()
        found = digest(_key(request))
        caller = self._callers.get(found)
        # The dictionary tells a stranger nothing: who cannot choose digests learns nothing from how far two
        # agree. That the key is the right one is compared in constant time.
        if caller is None or not any(hmac.compare_digest(found, known) for known in caller.digests):
            raise UnauthenticatedError("an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY")
        if scope not in caller.scopes:
            raise ForbiddenError(f"this key is not for {scope!r}")
        if caller.requests is not None:
            caller.requests.take()
        return caller

    def _look(self) -> None:
        now = self._clock()
        if self._file is None or now - self._looked_at < CHECK_INTERVAL_S:
            return
        self._looked_at = now
        if (state := self._state()) == self._seen:
            return
        self._seen = state
        try:
            self._let_in(read_grants(self._file, None))
        except KeysError as error:
            logger.error("the API keys are those of before: %s", error)
        else:
            logger.info("API keys of %d callers", len(self._grants))

    def _state(self) -> tuple[int, ...] | None:
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev

    def _let_in(self, grants: Mapping[str, Grant]) -> None:
        """A caller whose limits are the same keeps what is left of them."""
        known = {cast(str, caller.name): caller for caller in self._callers.values()}
        callers: dict[str, Caller] = {}
        for name, grant in grants.items():
            former, before = known.get(name), self._grants.get(name)
            limits = ("requests_per_s", "burst", "cost_ms_per_s", "cost_burst_ms")
            if former and before and all(getattr(grant, one) == getattr(before, one) for one in limits):
                buckets = former.requests, former.cost
            else:
                buckets = self._buckets(grant)
            caller = Caller(name, tuple(grant.sha256), grant.scopes, *buckets)
            callers |= dict.fromkeys(grant.sha256, caller)
        self._grants, self._callers = grants, callers

    def _buckets(self, grant: Grant) -> tuple[Bucket | None, Bucket | None]:
        clock = self._clock
        requests = grant.requests_per_s and Bucket(grant.requests_per_s, grant.burst, clock)
        cost = grant.cost_ms_per_s and Bucket(grant.cost_ms_per_s, grant.cost_burst_ms, clock)
        return requests or None, cost or None


def _key(request: Request) -> bytes:
    """The key that was sent, empty if there is none. A gateway adds its own as `X-API-Key` to whatever its
    callers send as `Authorization`, which is then for the gateway."""
    bearer: bytes = b""
    for name, value in request.scope["headers"]:
        if name == b"x-api-key":
            return cast(bytes, value)
        if name == b"authorization" and not bearer and value[:7].lower() == b"bearer ":
            bearer = value[7:].strip()
    return bearer


def admit(request: Request, scope: Scope) -> None:
    """Let a request in that needs a scope, or raise as `Access.caller`."""
    request.scope["state"]["caller"] = service_of(request).access.caller(request, scope)


async def _admitted(
    request: Request,
    needed: SecurityScopes,
    bearer: Annotated[Any, Security(HTTPBearer(auto_error=False))],
    api_key: Annotated[Any, Security(APIKeyHeader(name="X-API-Key", auto_error=False))],
) -> None:
    """The last two are for the OpenAPI document."""
    for scope in needed.scopes:
        admit(request, cast(Scope, scope))


def needs(scope: Scope) -> Any:
    """One of a route's or router's `dependencies`: it is for callers with this scope."""
    return Security(_admitted, scopes=[scope])


def caller_of(request: Request) -> Caller:
    """Whose a request to a route that needs a scope is."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


ACCESS_ERRORS = (UnauthenticatedError, ForbiddenError, RateLimitedError)
"""What a route that needs a scope may end in."""
