"""A page of the service's own: a folder of files, which load nothing from elsewhere."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastapi import Response
from starlette.exceptions import HTTPException

INDEX = "index.html"
MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}


class _File(NamedTuple):
    content: bytes
    headers: Mapping[str, str]


class StaticPage:
    """Its files, by path. Those of other kinds, such as licences, are not answered."""

    def __init__(self, folder: Path, **sources: str) -> None:
        """`sources`: what may be loaded besides the page's own files, such as `img_src="data:"`."""
        security = {
            "content-security-policy": _policy((folder / INDEX).read_text(), sources),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        }
        self._files = {
            path.relative_to(folder).as_posix(): _File(
                path.read_bytes(), security | {"content-type": f"{MEDIA_TYPES[path.suffix]}; charset=utf-8"}
            )
            for path in folder.rglob("*")
            if path.suffix in MEDIA_TYPES
        }

    def answer(self, name: str = INDEX) -> Response:
        """A file. Raises: HTTPException: 404, it is none of the page's."""
        if name not in self._files:
            raise HTTPException(404)
        content, headers = self._files[name]
        return Response(content, headers=headers)


def _policy(page: str, sources: Mapping[str, str]) -> str:
    """No script in the page but its map of modules, known by its hash."""
    inside = re.findall(r"<script[^>]*>(.+?)</script>", page, re.DOTALL)
    hashes = [b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inside]
    scripts = " ".join(["'self'", *(f"'sha256-{one}'" for one in hashes)])
    more = [f"{name.replace('_', '-')} 'self' {allowed}" for name, allowed in sources.items()]
    nowhere = "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return "; ".join(["default-src 'self'", f"script-src {scripts}", *more, nowhere])
