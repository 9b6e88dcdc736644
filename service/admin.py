"""What a running service serves, and changes of it: `python -m service.admin list`.

    python -m service.admin load films 4               # beside what is served
    python -m service.admin shares films 3=0.9 4=0.1   # a tenth of the users
    python -m service.admin rollback films             # as before the last change of shares

The service is the one at --url, or RERANK_ADMIN_URL; the key with the scope `admin` is in RERANK_ADMIN_KEY.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

URL, KEY = "RERANK_ADMIN_URL", "RERANK_ADMIN_KEY"
PATIENCE_S = 600.0
"""More than a service takes before it gives a change up."""

Call = tuple[str, str, Any]
"""Method, path and body."""


def call_of(given: argparse.Namespace) -> Call:
    """What a command line asks the service for."""
    name = quote(given.name, safe="") if "name" in given else ""
    match given.command:
        case "list":
            return "GET", "/v1/models", None
        case "reload":
            return "POST", "/v1/models:reload", None
        case "load" | "unload":
            return "POST", f"/v1/models/{name}/versions/{quote(given.version, safe='')}:{given.command}", None
        case "default" | "rollback":
            return "POST", f"/v1/models/{name}:{given.command}", None
        case "shares":
            return "PUT", f"/v1/models/{name}/shares", {"shares": dict(given.shares)}
    if given.version is None:
        return "DELETE", f"/v1/models/{name}/shadow", None
    asked = {name: getattr(given, name) for name in ("model", "version", "share")}
    body = {name: value for name, value in asked.items() if value is not None}
    return "PUT", f"/v1/models/{name}/shadow", body


def ask(url: str, key: str | None, call: Call) -> Any:
    """The models that are then served.

    Raises:
        OSError, HTTPException, ValueError: the service refuses, or does not answer; the message says why.
    """
    method, path, body = call
    headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
    content = None if body is None else json.dumps(body).encode()
    request = Request(url.rstrip("/") + path, content, headers, method=method)
    try:
        with urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)["models"]
    except HTTPError as error:
        raise ValueError(_told(error)) from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{url}: what answers there is another service") from None


def _told(error: HTTPError) -> str:
    try:
        return f"{error.code}: {json.load(error)['error']}"
    except (ValueError, KeyError, TypeError):
        return str(error)


def _share(text: str) -> tuple[str, float]:
    version, _, share = text.rpartition("=")
    if not version:
        raise argparse.ArgumentTypeError(f"expected VERSION=SHARE, got {text!r}")
    return version, float(share)


def _check(given: argparse.Namespace) -> str | None:
    """What is wrong with a command line, though each of its parts is right."""
    if given.command == "shares" and len(dict(given.shares)) < len(given.shares):
        return "a version occurs twice"
    if given.command == "shadow" and given.version is None and (given.model or given.share is not None):
        return "--model and --share go with a version"
    return None


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m service.admin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", default=os.environ.get(URL, "http://127.0.0.1:8080"), help="of the service")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what is served")
    commands.add_parser("reload", help="serve the current versions of the repository, as on SIGHUP")
    for command, text in (
        ("load", "open, check and warm up a version of the repository"),
        ("unload", "free a version that has no share"),
    ):
        added = commands.add_parser(command, help=text)
        added.add_argument("name")
        added.add_argument("version")
    for command, text in (
        ("default", "let this model answer requests that name none"),
        ("rollback", "undo the last change of shares"),
    ):
        commands.add_parser(command, help=text).add_argument("name")
    shares = commands.add_parser("shares", help="divide a model's requests among loaded versions")
    shares.add_argument("name")
    shares.add_argument("shares", nargs="+", type=_share, metavar="VERSION=SHARE")
    shadow = commands.add_parser("shadow", help="show requests to another version too; to none without one")
    shadow.add_argument("name")
    shadow.add_argument("version", nargs="?")
    shadow.add_argument("--model", help="whose version it is; the same model's if absent")
    shadow.add_argument("--share", type=float, help="of the requests (1)")
    return parser


def _table(models: Sequence[Any]) -> str:
    rows = [("model", "version", "share", "shadow", "loaded")]
    for model in models:
        shadow = model["shadow"]
        seen = f"{shadow['model']} {shadow['version']} ({shadow['share']:g})" if shadow else ""
        rows.append((model["name"], model["version"], f"{model['share']:g}", seen, model["loaded_at"][:19]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    if fault := _check(given):
        parser.error(fault)
    try:
        print(_table(ask(given.url, os.environ.get(KEY), call_of(given))))
    except (OSError, HTTPException, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
