"""Requests a second out of the rows of a race."""

from collections.abc import Iterable
from typing import Any

from engine.settings import Decoding

RACES: tuple[Decoding, ...] = ("native", "graph")
"""How the peers decode: as our service does, or by the slate graph on ONNX Runtime."""


def best_rates(rows: Iterable[dict[str, Any]], decoding: Decoding) -> dict[str, dict[int, float]]:
    """Server -> connections -> requests a second in its best round of this race.

    Every server at its best, ours too: in later rounds a lone connection waits 40 ms for BentoML, whose
    batcher adapts to what it has seen, and a median would hold that against it.
    """
    rates: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["decoding"] != decoding:
            continue
        of_server = rates.setdefault(row["server"], {})
        of_server[row["connections"]] = max(row["per_second"], of_server.get(row["connections"], 0.0))
    return rates
