"""One log line for every answer that somebody may have to explain: it failed, was refused, or is a fallback.

Beyond a rate lines of one kind are left out, and its next one says how many. Of all other answers a share is
logged, if that is asked for. Knows routes, never paths, for those hold ids.
"""

import logging
import random
from collections.abc import Callable
from time import monotonic
from typing import Any

from service.observe.logs import FIELDS
from service.observe.tracing import RequestRecord
from service.settings import Settings

FAILED, REFUSED, FELL_BACK = "a request failed", "a request was refused", "a list came back as it was"
ANSWERED = "a request was answered"

logger = logging.getLogger(__name__)


class Sampled:
    """So many lines a second, on average; a burst of as many, and at least one."""

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s, self._room, self._at = per_s, max(1.0, per_s), now
        self._left_out = 0

    def take(self, now: float) -> int | None:
        """How many were left out since the last line, if this one may be written."""
        if self._per_s == 0:
            return None
        self._room = min(max(1.0, self._per_s), self._room + self._per_s * (now - self._at))
        self._at = now
        if self._room < 1.0:
            self._left_out += 1
            return None
        self._room -= 1.0
        left_out, self._left_out = self._left_out, 0
        return left_out


class AnswerLog:
    """Told of every answer."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        self._per_s, self._share, self._clock = settings.answer_log_per_s, settings.access_log_ratio, clock
        self._kinds: dict[tuple[int, str | None], Sampled] = {}

    def refused(self, code: int, reason: str) -> None:
        """An answer to what was not read as far as its route."""
        record = RequestRecord({})
        record.reason = reason
        self.answered(record, "unmatched", code, 0.0)

    def answered(self, record: RequestRecord, endpoint: str, code: int, took_s: float) -> None:
        if code >= 500:
            level, message = logging.ERROR, FAILED
        elif code == 429:
            level, message = logging.WARNING, REFUSED
        elif record.fallback is not None:
            level, message = logging.WARNING, FELL_BACK
        elif self._share and random.random() < self._share:
            _write(logging.INFO, ANSWERED, record, endpoint, code, took_s)
            return
        else:
            return
        now, kind = self._clock(), (code, record.fallback)
        sampled = self._kinds.get(kind)
        if sampled is None:
            sampled = self._kinds[kind] = Sampled(self._per_s, now)
        left_out = sampled.take(now)
        if left_out is not None:
            more = {"left_out": left_out} if left_out else {}
            _write(level, message, record, endpoint, code, took_s, **more)


def _write(
    level: int, message: str, record: RequestRecord, endpoint: str, code: int, took_s: float, **more: Any
) -> None:
    name, version = record.model or (None, None)
    told = {
        "endpoint": endpoint,
        "code": code,
        "fallback": record.fallback,
        "reason": None if level == logging.INFO else record.reason,  # which may quote a bad body
        "model": name,
        "version": version,
        "took_ms": round(took_s * 1000, 1),
        **more,
    }
    logger.log(
        level, message, extra={FIELDS: {key: value for key, value in told.items() if value is not None}}
    )
