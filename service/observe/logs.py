"""Logs: one JSON object a line on stderr, each with the ids of the request it belongs to.

No user or item id is logged at INFO and above, and none in clear at all. Ids are passed apart from the
message, as `extra={IDS: {...}}`, and written to DEBUG lines only, hashed, where `log_ids` asks for it. An
exception is logged as types and frames, because its text may quote an id; at `log_level` debug with its text.
"""

import json
import logging
import secrets
import sys
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from service.observe.tracing import current
from service.settings import Settings

IDS = "ids"
FIELDS = "fields"
"""Of a line besides its message, as `extra={FIELDS: {...}}`: no ids."""


class JsonFormatter(logging.Formatter):
    """timestamp, level, logger, message, request_id, trace_id, span_id, ids, exception and fields, if any."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._debugging, self._hashing = settings.log_level == "debug", settings.log_ids == "hashed"
        given = settings.log_ids_key
        key = secrets.token_hex() if given is None else given.get_secret_value()
        self._key = blake2b(key.encode()).digest()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        request = current()
        if request is not None:
            line["request_id"] = request.request_id
            if request.trace_ids is not None:
                line["trace_id"], line["span_id"] = request.trace_ids
        ids: Mapping[str, Any] | None = getattr(record, IDS, None)
        if ids is not None and self._hashing and record.levelno <= logging.DEBUG:
            line[IDS] = {name: self._hashed(value) for name, value in ids.items()}
        if record.exc_info and record.exc_info[1] is not None:
            frames = "".join(_frames(record.exc_info[1]))
            line["exception"] = self.formatException(record.exc_info) if self._debugging else frames
        return json.dumps(line)

    def _hashed(self, value: Any) -> Any:
        """Ids hashed with the key, without which nobody can try them out."""
        if isinstance(value, str):
            return blake2b(value.encode(), key=self._key, digest_size=8).hexdigest()
        return None if value is None else [self._hashed(one) for one in value]


def _frames(error: BaseException) -> Iterator[str]:
    """Types and frames of an exception and of those it came from, the first one first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _frames(cause)
        yield "\nwhich led to\n\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__module__}.{type(error).__qualname__}\n"


def configure(settings: Settings) -> None:
    """Send every logger of the process, and Python's warnings, through the formatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(settings))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
