"""A decision log of the service as a log in the event format.

What a list's line says goes into its `ranking`: items as they were sent, in the caller's order, what was
shown of them and with which propensities, and the profile and history that the model was told of. A fallback
is a list like any other, shown in the caller's order with propensities of 1. People without an id are each
somebody else.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from decisions.files import PACKED, PLAIN
from decisions.lines import Decision
from decisions.reading import WINDOW_S, Joined, Tally, matrix_values, ranked_as_of, read_decisions
from model.data.event_log import Located
from model.data.findings import Findings
from model.data.log_lines import read_values, replacing

_COMPONENT = re.compile(r"(.+)\[(\d+)\]")


def events_of_decisions(
    directory: Path,
    tally: Tally,
    found: Findings,
    records: Path | None = None,
    window_s: float = WINDOW_S,
) -> Iterator[Located]:
    """The events of a decision log, and where each is from.

    Args:
        found: what is wrong with the lines of `records`.
        records: `item` and `user` lines of the event format, for what was not sent with the lists.
        window_s: how long after a list its feedback counts.

    Raises:
        DecisionLogError: a line is wrong.
        DataUnavailableError: there are no `records`.
    """
    sent: dict[str, dict[str, Any]] = {}
    for joined in read_decisions(directory, tally, window_s):
        features = features_sent(joined.decision)
        for item, own in zip(joined.decision.items, features, strict=True):
            if own:
                sent.setdefault(item.id, {}).update(own)
        for item_id, told in joined.decision.told.items():
            sent.setdefault(item_id, {}).update(told)
        for event in _events(joined, features):
            yield f"{directory}: {joined.decision.request_id}", event
    for item_id, own in sent.items():
        yield f"{directory}: items", {"event": "item", "item": item_id, "fields": _fields(own)}
    if records is not None:
        yield from read_values(records, found)


def write_events(
    directory: Path, out: Path, records: Path | None = None, window_s: float = WINDOW_S
) -> Tally:
    """Write the events as a file, gzip if its name says so.

    Raises: as `events_of_decisions`, and EventLogError: too much is wrong with `records`. Then nothing is
        written, nor where `out` would be read as a part of the log (ValueError)."""
    if directory.resolve() in out.resolve().parents and out.name.endswith((PLAIN, PACKED)):
        raise ValueError(f"{out}: lies in the decision log, and would be read as a part of it")
    tally, found = Tally(), Findings()
    with replacing(out) as file:
        for _, event in events_of_decisions(directory, tally, found, records, window_s):
            file.write(json.dumps(event, ensure_ascii=False) + "\n")
        found.refuse()
    return tally


def features_sent(decision: Decision) -> list[dict[str, Any]]:
    """Features that came with each item, by itself or in the matrix; of both the item's own. `[N]`."""
    found: list[dict[str, Any]] = [{} for _ in decision.items]
    if decision.matrix is not None:
        vectors: defaultdict[str, list[int]] = defaultdict(list)
        for column, name in enumerate(decision.matrix.names):
            component = _COMPONENT.fullmatch(name)
            vectors[component[1] if component else name].append(column)
        values = matrix_values(decision)
        for name, columns in vectors.items():
            scalar = name in decision.matrix.names
            for own, row in zip(found, values[:, columns].tolist(), strict=True):
                if not np.isnan(row).any():
                    own[name] = row[0] if scalar else row
    for own, item in zip(found, decision.items, strict=True):
        own.update(item.features or {})
    return found


def _events(joined: Joined, features: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    decision = joined.decision
    items = [
        {"id": item.id, "fields": _fields(own if item.score is None else {**own, "relevancy": item.score})}
        for item, own in zip(decision.items, features, strict=True)
    ]
    written = list(decision.propensity)
    yield {
        "event": "ranking",
        "id": decision.id,
        "user": decision.user_id,
        "timestamp": ranked_as_of(decision),
        "items": items,
        "shown": list(decision.slate),
        "propensity": [*written, *[1.0] * (len(decision.slate) - len(written))],
        "fields": _fields({name: one for name, one in decision.context.items() if name != "timestamp"}),
        "profile": _fields(decision.profile),
        "history": [
            {"item": seen.item_id, "type": seen.type}
            | ({} if seen.timestamp is None else {"timestamp": seen.timestamp})
            for seen in decision.history
        ],
    }
    for outcome in joined.outcomes:
        yield {
            "event": "interaction",
            "ranking": decision.id,
            "item": outcome.item_id,
            "type": outcome.type,
        }


def _fields(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in record.items()]
