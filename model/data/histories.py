"""What a log knows of people after its last list, one line a person, as `python -m service.load_histories`
and the body of `PUT /v1/users/{id}/context` have it."""

import json
from collections.abc import Mapping
from pathlib import Path

from bundle.features.history import Interaction, UserContext
from model.data.log_lines import open_for_writing


def write_histories(people: Mapping[str, UserContext], out: Path) -> None:
    """Write them, gzip if the file's name says so."""
    with open_for_writing(out) as file:
        for user_id, known in people.items():
            person = {
                "user_id": user_id,
                "profile": dict(known.profile),
                "history": [_event(event) for event in known.history],
            }
            file.write(json.dumps(person, ensure_ascii=False) + "\n")


def _event(event: Interaction) -> dict[str, str | float]:
    found: dict[str, str | float] = {"item_id": event.item_id, "type": event.type}
    return found if event.timestamp is None else {**found, "timestamp": event.timestamp}
