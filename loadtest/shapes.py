"""Load over the time of a run, as levels: which share of it, at which share of the full load.

Pure, so that a report can tell levels apart without Locust.
"""

from typing import NamedTuple

SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "steady": ((1.0, 1.0),),
    "ramp": tuple((1 / 6, step / 6) for step in range(1, 7)),
    "spike": ((0.4, 0.25), (0.2, 1.0), (0.4, 0.25)),
    "soak": ((0.1, 0.6),) * 10,  # a constant load; in ten parts, to compare the last with the first
}
"""(share of the run time, share of the users) of each level, in order."""


class Level(NamedTuple):
    """A part of the run with a constant load; seconds since its start."""

    start_s: float
    end_s: float
    users: int


def levels(shape: str, run_time_s: float, users: int) -> list[Level]:
    """The levels of a run; each has at least one user."""
    found, start_s = [], 0.0
    for duration, load in SHAPES[shape]:
        end_s = start_s + duration * run_time_s
        found.append(Level(start_s, end_s, max(1, round(load * users))))
        start_s = end_s
    return found
