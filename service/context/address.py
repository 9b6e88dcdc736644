"""The address of a Redis, as its URL tells it. Knows the forms, and no client.

    redis://[user:password@]host[:port][/db]
    unix://[user:password@]/path[?db=N]
    redis+sentinel://[user:password@]host[:port],host[:port],.../service[/db]
    redis+cluster://[user:password@]host[:port],host[:port],...

`rediss` instead of `redis` is TLS. What a form does not know is an error, and no error holds the URL, for
there may be a password in it.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

Mode = Literal["server", "sentinel", "cluster"]

SCHEMES: Mapping[str, tuple[Mode, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("server", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
PORTS: Mapping[Mode, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}

TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
ENCODED = "(in a password, ':/?#@' are %-encoded)"
OPTIONS = ("protocol", "db", "client_name")


@dataclass(frozen=True)
class RedisAddress:
    """Where a Redis is, and how to be let in.

    Attributes:
        hosts: of the server, the sentinels, or some of the cluster's nodes; none with a `path`.
        path: of a unix socket.
        service: the master's name among sentinels.
        protocol: of RESP.
        tls: options by redis-py's names; None without TLS.
        sentinel: what lets in to the sentinels, by redis-py's names.
    """

    mode: Mode
    hosts: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    service: str | None = None
    db: int = 0
    protocol: int = 2
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    client_name: str | None = None
    tls: Mapping[str, Any] | None = None
    sentinel: Mapping[str, str] = field(default_factory=dict, repr=False)


def parse_address(url: str) -> RedisAddress:
    """Raises: ValueError: it is none; the message says what was expected, and holds nothing of it."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"expected one of {', '.join(f'{known}://' for known in SCHEMES)}")
    mode, secure = SCHEMES[scheme]
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("not a URL: brackets of an IPv6 address do not match") from None
    if parts.fragment or "#" in url:
        raise ValueError("'#' must be written %23")
    options = _options(parts.query, mode, secure)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    found: dict[str, Any] = {
        "mode": mode,
        "username": unquote(username) or None,
        "password": unquote(password) or None,
        "protocol": _one_of("protocol", options.pop("protocol", "2"), {"2": 2, "3": 3}),
        "client_name": options.pop("client_name", None),
        "sentinel": {name[9:]: options.pop(name) for name in SENTINEL_OPTIONS if name in options},
        "tls": _tls(options) if secure else None,
    }
    path = [unquote(part) for part in parts.path.split("/")[1:]]
    if scheme == "unix":
        found["path"] = unquote(parts.path)
        if hosts or len(found["path"]) < 2:
            raise ValueError("expected unix:///path/of/socket")
        path = []
    else:
        found["hosts"] = tuple(_host(host, PORTS[mode]) for host in hosts.split(","))
        if mode == "server" and len(found["hosts"]) > 1:
            raise ValueError("several hosts are sentinels (redis+sentinel://) or nodes (redis+cluster://)")
    if mode == "sentinel":
        if not path or not path[0]:
            raise ValueError("expected the master's name: redis+sentinel://host:port,host:port/name")
        found["service"] = path.pop(0)
    return RedisAddress(**found, db=_db(path, options, mode))


def _options(query: str, mode: Mode, secure: bool) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ValueError("an option occurs twice")
    for name in options:
        if name in TLS_OPTIONS:
            if not secure:
                raise ValueError(f"option {name} is for TLS, which is rediss:// instead of redis://")
        elif name in SENTINEL_OPTIONS:
            if mode != "sentinel":
                raise ValueError(f"option {name} is for redis+sentinel://")
        elif name not in OPTIONS:
            known = ", ".join((*OPTIONS, *TLS_OPTIONS, *SENTINEL_OPTIONS))
            hint = "; timeouts and connections are settings of their own" if "timeout" in name else ""
            raise ValueError(f"unknown option {name[:40]!r}, expected one of {known}{hint}")
    return options


def _host(text: str, default_port: int) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or "]" in port:
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise ValueError(f"a host is missing {ENCODED}")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"a port is not a number from 1 to 65535 {ENCODED}")
    return unquote(host), int(port)


def _db(path: list[str], options: Mapping[str, str], mode: Mode) -> int:
    given = [part for part in path if part]
    if "db" in options:
        given.append(options["db"])
    if len(given) > 1:
        raise ValueError("expected one database number")
    db = given[0] if given else "0"
    if not (db.isascii() and db.isdecimal() and len(db) < 6):
        raise ValueError("expected a number as the database")
    if mode == "cluster" and int(db):
        raise ValueError("a cluster has database 0 only")
    return int(db)


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    """Raises: ValueError: a file cannot be read, or is no certificate or key."""
    found: dict[str, Any] = {name: options[name] for name in TLS_OPTIONS[:3] if name in options}
    required = {"none": "none", "optional": "optional", "required": "required"}
    found["ssl_cert_reqs"] = _one_of("ssl_cert_reqs", options.get("ssl_cert_reqs", "required"), required)
    checked = "true" if found["ssl_cert_reqs"] != "none" else "false"
    found["ssl_check_hostname"] = _one_of(
        "ssl_check_hostname", options.get("ssl_check_hostname", checked), TRUTHS
    )
    if found["ssl_check_hostname"] and found["ssl_cert_reqs"] == "none":
        raise ValueError("ssl_check_hostname needs ssl_cert_reqs=required")
    if "ssl_keyfile" in found and "ssl_certfile" not in found:
        raise ValueError("ssl_keyfile needs ssl_certfile")
    for name, load in (
        ("ssl_ca_certs", lambda: ssl.create_default_context(cafile=found["ssl_ca_certs"])),
        ("ssl_certfile", lambda: _load_pair(found["ssl_certfile"], found.get("ssl_keyfile"))),
    ):
        if name in found:
            try:
                load()
            except ssl.SSLError:
                raise ValueError(f"{name}: no certificate, or not of this key") from None
            except OSError as error:
                raise ValueError(f"{name}: {error.strerror}") from None
    return found


def _load_pair(certificate: str, key: str | None) -> None:
    # A key with a passphrase would be asked for on the terminal.
    ssl.create_default_context().load_cert_chain(certificate, key, password="")


def _one_of(name: str, value: str, values: Mapping[str, Any]) -> Any:
    if value not in values:
        raise ValueError(f"option {name}: expected one of {', '.join(values)}")
    return values[value]
