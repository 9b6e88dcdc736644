"""API keys: who may ask for what, as a file of TOML says; and `python -m service.keys new` to make one.

    [shop]                                      # the caller's name
    sha256 = ["9f86d081884c7d659a2f..."]        # of its keys: two while one takes over from the other
    scopes = ["rerank", "feedback"]
    requests_per_s = 200                        # optional, as are the bursts, a second's worth if absent
    cost_ms_per_s = 500                         # optional: predicted milliseconds of inference

The file has no key in it. A key is 256 random bits, which nobody finds by trying however fast the hash is, so
that a slow hash would only slow down every request.
"""

import argparse
import hashlib
import secrets
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, TypeAdapter, ValidationError

from bundle.errors import RerankerError

Scope = Literal["rerank", "feedback", "users", "admin", "metrics"]

PREFIX = "rk_"
"""What a key begins with, so that scanners for secrets know one."""

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Grant(BaseModel):
    """What one caller may do."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    sha256: Annotated[list[Digest], Field(min_length=1)]
    scopes: frozenset[Scope]
    requests_per_s: PositiveFloat | None = None
    burst: PositiveFloat | None = None
    cost_ms_per_s: PositiveFloat | None = None
    cost_burst_ms: PositiveFloat | None = None


_GRANTS = TypeAdapter(dict[str, Grant])


class KeysError(RerankerError, ValueError):
    """The keys cannot be understood; the message says where."""


def read_grants(file: Path | None, text: str | None) -> Mapping[str, Grant]:
    """Callers by name, of a file, or of the same as text.

    Raises:
        KeysError: the file cannot be read, or is not of this form.
    """
    where = "" if file is None else f"{file}: "
    try:
        grants = _GRANTS.validate_python(tomllib.loads(file.read_text() if file is not None else text or ""))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KeysError(f"{where}{error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise KeysError(f"{where}{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    digests = [digest for grant in grants.values() for digest in grant.sha256]
    if not digests:
        raise KeysError(f"{where}there is no key in it")
    if len(set(digests)) < len(digests):
        raise KeysError(f"{where}two callers have the same key")
    return grants


def digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def new(name: str, scopes: Sequence[str]) -> tuple[str, str]:
    """A new key, and the lines that let it in."""
    key = PREFIX + secrets.token_urlsafe(32)
    listed = ", ".join(f'"{scope}"' for scope in scopes)
    return key, f'[{name}]\nsha256 = ["{digest(key.encode())}"]\nscopes = [{listed}]\n'


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.keys", description="Make an API key.")
    making = parser.add_subparsers(required=True, metavar="new").add_parser(
        "new", help="print a new key, and the lines of the file of keys that let it in"
    )
    making.add_argument("--name", default="caller", help="the caller's name: letters, digits, - and _")
    making.add_argument(
        "--scopes", required=True, help=f"of {', '.join(get_args(Scope))}, with commas between"
    )
    given = parser.parse_args(arguments)
    scopes = [scope.strip() for scope in given.scopes.split(",")]
    if unknown := [scope for scope in scopes if scope not in get_args(Scope)]:
        parser.error(f"no such scope: {', '.join(unknown)}; there are {', '.join(get_args(Scope))}")
    key, lines = new(given.name, scopes)
    try:
        read_grants(None, lines)
    except KeysError:
        parser.error(f"--name: letters, digits, - and _ only, got {given.name!r}")
    print(f"# The key, which is nowhere else:\n#   {key}\n# For the file that RERANK_API_KEYS_FILE names:")
    print(lines, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
