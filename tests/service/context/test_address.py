"""Addresses of Redis: what each form means, and that mistakes are told at start-up, without the password."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.service import ROOT
from service.__main__ import read_settings
from service.context.address import RedisAddress, parse_address

TLS = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}

FORMS: dict[str, dict[str, Any]] = {
    "redis://h": {"mode": "server", "hosts": (("h", 6379),)},
    "redis://h:1/3": {"mode": "server", "hosts": (("h", 1),), "db": 3},
    "redis://h/?db=3&protocol=3&client_name=x": {
        **{"mode": "server", "hosts": (("h", 6379),), "db": 3},
        **{"protocol": 3, "client_name": "x"},
    },
    "redis://:p%40%2F@h": {"mode": "server", "hosts": (("h", 6379),), "password": "p@/"},
    "redis://us%20er:a:b@[::1]:7": {
        **{"mode": "server", "hosts": (("::1", 7),)},
        **{"username": "us er", "password": "a:b"},
    },
    "redis://[::1]": {"mode": "server", "hosts": (("::1", 6379),)},
    "rediss://h": {"mode": "server", "hosts": (("h", 6379),), "tls": TLS},
    "rediss://h?ssl_cert_reqs=none": {
        **{"mode": "server", "hosts": (("h", 6379),)},
        "tls": {"ssl_cert_reqs": "none", "ssl_check_hostname": False},
    },
    "unix:///a%20b.sock?db=2": {"mode": "server", "path": "/a b.sock", "db": 2},
    "unix://u:p@/s": {"mode": "server", "path": "/s", "username": "u", "password": "p"},
    "redis+sentinel://u:p@a,b:7/main": {
        **{"mode": "sentinel", "hosts": (("a", 26379), ("b", 7)), "service": "main"},
        **{"username": "u", "password": "p"},
    },
    "rediss+sentinel://a/main/2?sentinel_username=v&sentinel_password=q": {
        **{"mode": "sentinel", "hosts": (("a", 26379),), "service": "main", "db": 2},
        **{"tls": TLS, "sentinel": {"username": "v", "password": "q"}},
    },
    "redis+cluster://:p@a:1,b/0": {"mode": "cluster", "hosts": (("a", 1), ("b", 6379)), "password": "p"},
    "rediss+cluster://a": {"mode": "cluster", "hosts": (("a", 6379),), "tls": TLS},
}


@pytest.mark.parametrize("url", FORMS)
def test_forms(url: str) -> None:
    assert parse_address(url) == RedisAddress(**FORMS[url])


MISTAKES = {
    "127.0.0.1:6379": "expected one of redis://, rediss://",
    "localhost": "expected one of redis://",
    "//h": "expected one of redis://",
    "http://h": "expected one of redis://",
    "REDIS//h": "expected one of redis://",
    "redis://": "a host is missing",
    "redis://:secret@": "a host is missing",
    "redis://:6379": "a host is missing",
    "redis://h:port": "a port is not a number",
    "redis://h:0": "a port is not a number",
    "redis://h:65536": "a port is not a number",
    "redis://:se/cret@h": "a host is missing (in a password",
    "redis://:secret#@h": "'#' must be written %23",
    "redis://[::1": "brackets",
    "redis://a,b": "several hosts are sentinels",
    "redis://h/x": "expected a number as the database",
    "redis://h/-1": "expected a number as the database",
    "redis://h/²": "expected a number as the database",
    "redis://h/0/1": "expected one database number",
    "redis://h/0?db=1": "expected one database number",
    "redis://h?db=x": "expected a number as the database",
    "redis://h?protocol=4": "option protocol: expected one of 2, 3",
    "redis://h?protocol=2&protocol=3": "an option occurs twice",
    "redis://h?ssl=true": "unknown option 'ssl'",
    "redis://h?socket_timeout=3": "timeouts and connections are settings of their own",
    "redis://h?ssl_cert_reqs=none": "option ssl_cert_reqs is for TLS, which is rediss://",
    "redis://h?ssl_ca_certs=/x": "option ssl_ca_certs is for TLS",
    "redis://h?sentinel_password=secret": "option sentinel_password is for redis+sentinel://",
    "rediss://h?ssl_ca_certs=/nowhere": "ssl_ca_certs: No such file or directory",
    f"rediss://h?ssl_ca_certs={__file__}": "ssl_ca_certs: no certificate",
    f"rediss://h?ssl_certfile={__file__}": "ssl_certfile: no certificate",
    "rediss://h?ssl_keyfile=/x": "ssl_keyfile needs ssl_certfile",
    "rediss://h?ssl_cert_reqs=maybe": "option ssl_cert_reqs: expected one of none, optional, required",
    "rediss://h?ssl_check_hostname=true&ssl_cert_reqs=none": "ssl_check_hostname needs",
    "unix://": "expected unix:///path/of/socket",
    "unix://relative/path": "expected unix:///path/of/socket",
    "unix:///s?ssl_cert_reqs=none": "is for TLS",
    "redis+sentinel://a:1": "expected the master's name",
    "redis+sentinel://a,,b/main": "a host is missing",
    "redis+sentinel://a/main/x": "expected a number as the database",
    "redis+cluster://a/1": "a cluster has database 0 only",
}


@pytest.mark.parametrize("url", MISTAKES)
def test_mistakes(url: str) -> None:
    with pytest.raises(ValueError, match=re.escape(MISTAKES[url])) as error:
        parse_address(url)
    assert "cret" not in str(error.value)


@pytest.mark.parametrize("workers", [1, 2])
def test_mistakes_are_told_in_one_line(workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_settings(["--bundle", "b", "--redis-url", "127.0.0.1:6379", "--workers", str(workers)])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "error: --redis-url: expected one of redis://" in line
    assert "--workers" not in line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_does_not_start(bundle: Path, workers: str) -> None:
    command = [sys.executable, "-m", "service", "--bundle", str(bundle), "--workers", workers]
    ended = subprocess.run(
        [*command, "--port", "0", "--redis-url", "redis://:secret@127.0.0.1:6379/0?ssl_cert_reqs=none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "--redis-url: option ssl_cert_reqs is for TLS" in ended.stderr
    assert "secret" not in ended.stderr + ended.stdout


def test_no_password_is_shown() -> None:
    address = parse_address("redis+sentinel://u:secret@h/m?sentinel_password=secret")
    assert "secret" not in repr(address)
