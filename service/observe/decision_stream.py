"""Lines in a Redis Stream, an entry each with the one field `line`. The stream's length is bounded.

At least once: where a connection breaks before Redis has answered, what was sent is sent again.
"""

from itertools import takewhile

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.settings import Settings

CONNECT_S, ANSWER_S = 2.0, 5.0
AT_ONCE = 500
"""Most entries of a round trip."""


class DecisionStream:
    """A `decision_log.Sink`."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._key, self._length = settings.decision_log_stream, settings.decision_log_stream_length
        timeouts = {"socket_connect_timeout": CONNECT_S, "socket_timeout": ANSWER_S}
        self._redis = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **timeouts)

    def start(self) -> None:
        """Nothing: it connects when there is something to write."""

    def write(self, lines: list[bytes]) -> None:
        while lines:
            pipe = self._redis.pipeline(transaction=False)
            for line in lines[:AT_ONCE]:
                pipe.xadd(self._key, {"line": line}, maxlen=self._length, approximate=True)
            try:
                answers = pipe.execute(raise_on_error=False)
            except redis.RedisError as error:
                raise OSError(None, type(error).__name__) from error
            taken = list(takewhile(lambda answer: not isinstance(answer, Exception), answers))
            del lines[: len(taken)]
            if len(taken) < len(answers):  # should Redis have taken a later one, it gets it twice
                raise OSError(None, f"Redis refuses them: {type(answers[len(taken)]).__name__}")

    def due_s(self) -> float | None:
        return None

    def tend(self) -> None:
        """Nothing: the stream is bounded by Redis."""

    def close(self) -> None:
        self._redis.close()
