"""From an event log to a replay log: `python -m loadtest.record events.jsonl.gz replay.jsonl.gz`.

An event log is the one training reads (docs/training.md): `ranking` and `interaction` JSON lines, the format
of RankLens. Rankings become requests in the order of their times, interactions their clicks. `--rate` sets
the mean rate: time is stretched or compressed as a whole, so that busy and quiet times stay in place.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtest.replay import open_text


def record(
    events: Iterable[dict[str, Any]], rate_per_s: float | None, top_n: int
) -> Iterator[dict[str, Any]]:
    """Lines of a replay log.

    Rankings with the same time (logs often keep whole seconds) are spread evenly until the next one.

    Raises:
        ValueError: no rankings, or an invalid time.
    """
    rankings: list[dict[str, Any]] = []
    clicked: dict[str, list[str]] = {}
    for event in events:
        if event["event"] == "ranking":
            rankings.append(event)
        elif event["event"] == "interaction":
            clicked.setdefault(str(event["ranking"]), []).append(str(event["item"]))
    if not rankings:
        raise ValueError("no rankings in this log")
    rankings.sort(key=_time_s)
    at_s = _spread([_time_s(ranking) for ranking in rankings])
    scale = 1.0 if rate_per_s is None or not at_s[-1] else (len(at_s) - 1) / rate_per_s / at_s[-1]
    for time_s, ranking in zip(at_s, rankings, strict=True):
        body = {
            **({} if ranking["user"] is None else {"user_id": str(ranking["user"])}),
            "items": [{"id": str(item["id"])} for item in ranking["items"]],
            "top_n": top_n,
        }
        clicks = clicked.get(str(ranking["id"]), [])
        yield {"at_s": round(time_s * scale, 4), "body": body, "clicked": clicks}


def _time_s(ranking: dict[str, Any]) -> float:
    """When it was shown: unix time in any unit, told by its size, or ISO 8601."""
    try:
        time = float(ranking["timestamp"])
    except ValueError:
        found = datetime.fromisoformat(ranking["timestamp"])
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    while abs(time) > 1e11:  # seconds since 1970 are not until the year 5138
        time /= 1000
    return time


def _spread(times_s: list[float]) -> list[float]:
    """Seconds since the first time; equal times are spread until the next one."""
    spread: list[float] = []
    start = 0
    while start < len(times_s):
        end = start
        while end < len(times_s) and times_s[end] == times_s[start]:
            end += 1
        until = times_s[end] if end < len(times_s) else times_s[start] + 1.0
        step = min(until - times_s[start], 1.0) / (end - start)
        spread += [times_s[start] - times_s[0] + step * place for place in range(end - start)]
        start = end
    return spread


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.record", description=__doc__.split("\n\n")[1])
    parser.add_argument("events", type=Path, help="event log, JSON lines, gzip or plain")
    parser.add_argument("replay", type=Path, help="replay log to write, gzip if it ends in .gz")
    parser.add_argument("--rate", type=float, help="mean requests per second; as recorded if absent")
    parser.add_argument("--top-n", type=int, default=10, help="results asked for (default 10)")
    options = parser.parse_args(arguments)
    written = 0
    try:
        with open_text(options.events, "rt") as lines, open_text(options.replay, "wt") as replay:
            for entry in record(map(json.loads, lines), options.rate, options.top_n):
                replay.write(json.dumps(entry) + "\n")
                written += 1
    except (OSError, KeyError, ValueError) as error:
        print(f"cannot record: {error!r}", file=sys.stderr)
        return 2
    print(f"{options.replay}: {written} requests in {entry['at_s']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
