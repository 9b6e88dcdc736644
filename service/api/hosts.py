"""Which values of the Host header are answered, where not all are."""

from collections.abc import Sequence

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.answers import answer
from service.observe.tracing import HEALTH_PATHS


def is_health(scope: Scope) -> bool:
    """Whether a request asks for health, as an orchestrator does by the address of the container, behind
    whatever path a proxy puts before ours."""
    return scope["path"].removeprefix(scope.get("root_path", "")) in HEALTH_PATHS


class AllowedHosts:
    """Wraps an application. `*.example.com` is every name below example.com, and not that itself."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._names = frozenset(host.lower() for host in hosts if not host.startswith("*."))
        self._endings = tuple(host[1:].lower() for host in hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_health(scope) or self._allows(scope):
            await self._app(scope, receive, send)
            return
        refused = HTTPException(400, "this Host is not served here")
        await (await answer(Request(scope), refused))(scope, receive, send)

    def _allows(self, scope: Scope) -> bool:
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return False
        name = hosts[0].partition("]")[0] + "]" if hosts[0].startswith("[") else hosts[0].partition(":")[0]
        return name in self._names or name.endswith(self._endings)
