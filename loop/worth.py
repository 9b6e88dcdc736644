"""What is recorded of a round: what lists are truly worth, and how long everything took.

Legend: L held-out lists.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.provenance import commit, hardware
from model.metrics import paired_difference
from model.progress import console

Floats = NDArray[np.float64]
Record = dict[str, Any]


class Watch:
    """Seconds of each stage, told as they pass."""

    def __init__(self, title: str) -> None:
        self.title, self.seconds = title, dict[str, float]()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = monotonic()
        yield
        self.seconds[name] = round(monotonic() - started, 1)
        console.print(f"[bold]{self.title}[/] {name}: {self.seconds[name]:.1f} s")


def share_of_gain(value: float, references: Mapping[str, Floats]) -> float:
    """How far from random order to the oracle."""
    nothing, everything = (float(references[name].mean()) for name in ("random order", "oracle"))
    return (value - nothing) / (everything - nothing)


def worth(values: Floats, before: Floats, references: Mapping[str, Floats]) -> Record:
    """Of the held-out lists, with their interval, and their gain over those before the loop. `[L]` each."""
    mean, low, high = paired_difference([values])
    gain = paired_difference([values - before])
    return {
        "value": [round(one, 4) for one in (mean, low, high)],
        "gain": [round(one, 4) for one in gain],
        "share": round(share_of_gain(mean, references), 4),
        "lists_judged": len(values),
    }


def provenance() -> Record:
    return {"commit": commit(), "hardware": hardware()}
