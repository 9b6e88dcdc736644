"""A recorded log to send again: one JSON object per line, in order of time.

    {"at_s": 0.132, "body": {"user_id": "u1", "items": [{"id": "i1"}, ...], "top_n": 10}, "clicked": ["i1"]}

`at_s` counts from the start of the log, `body` is what is sent to the rerank route, `clicked` (optional) the
items of it that were clicked: of those shown again, they are reported as clicks and the others as
impressions. `loadtest/record.py` makes such a log of an event log.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Recorded(NamedTuple):
    at_s: float
    body: dict[str, Any]
    clicked: frozenset[str]


def read_replay(path: Path) -> Iterator[Recorded]:
    """The log's requests, read as they are needed.

    Raises:
        ValueError: a line that is not valid, or earlier than the previous one.
    """
    before = 0.0
    with open_text(path, "rt") as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                recorded = Recorded(float(entry["at_s"]), entry["body"], frozenset(entry.get("clicked", ())))
                items, top_n = recorded.body["items"], recorded.body["top_n"]
                [item["id"] for item in items], int(top_n)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}:{number}: not a recorded request: {error!r}") from error
            if recorded.at_s < before:
                raise ValueError(f"{path}:{number}: {recorded.at_s} s comes after {before} s")
            before = recorded.at_s
            yield recorded


def feedback(recorded: Recorded, answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """The body of the feedback on an answer; None if nothing was recorded to give it on."""
    if answer["recommendation_id"] is None:
        return None
    shown = [result["id"] for result in answer["results"]]
    events = [
        {"type": "click" if item in recorded.clicked else "impression", "item_id": item, "position": position}
        for position, item in enumerate(shown)
    ]
    return {"recommendation_id": answer["recommendation_id"], "events": events}


def open_text(path: Path, mode: str) -> Any:
    """A text file, gzip if its name says so."""
    return (
        gzip.open(path, mode, encoding="utf-8") if path.suffix == ".gz" else path.open(mode, encoding="utf-8")
    )
