"""Points in time as people write them, in unix seconds: a number's size tells its unit.

Seconds stay below 1e11 until the year 5138; milliseconds, microseconds and nanoseconds since 1973 lie in the
three decades of a thousand above it. So no time that a log or a request is about can be taken for another.
"""

import math
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ISO = "ISO 8601"
UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
"""By name, how many of them make a second."""

LARGEST_S = 1e11
"""What is larger is no seconds, and what is larger times a thousand no milliseconds."""

LARGEST = LARGEST_S * max(UNITS.values())
"""Of any unit."""


class Instant(NamedTuple):
    """Unix seconds, and what they were written in: a name in `UNITS`, or `ISO`. `zoned` is false for a date
    and time of no time zone, which is read as UTC."""

    seconds: float
    unit: str
    zoned: bool = True


def unit_of(number: float) -> str:
    """The unit that unix time of this size is in."""
    size = abs(number)
    for unit, per_second in UNITS.items():
        if size <= LARGEST_S * per_second:
            return unit
    raise ValueError(f"{number:g} is no unix time: it is past the year 5138 even in nanoseconds")


def unix_seconds(number: float) -> float:
    """A unix time in any unit. Raises: ValueError: it is too large for each, or not finite."""
    if not math.isfinite(number):
        raise ValueError(f"{number} is no time")
    return number / UNITS[unit_of(number)]


def in_seconds(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """`unix_seconds` of many, of any shape; NaN stays, and nothing is raised."""
    for _ in range(len(UNITS) - 1):
        larger = np.abs(times) > LARGEST_S
        if not larger.any():
            break
        times = np.where(larger, times / 1e3, times)
    return times


def read_time(value: Any) -> Instant:
    """A number, the text of one, or a date in ISO 8601. Raises: ValueError: it is none of these."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _iso(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected unix time or ISO 8601, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("a number without end is no time") from None
    return Instant(unix_seconds(number), unit_of(number))


def unix_time(text: str) -> float:
    """Unix seconds of a time as a command's argument has it. Raises: ValueError: it is none."""
    return read_time(text).seconds


def _iso(text: str) -> Instant:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"expected unix time or ISO 8601, got {text[:40]!r}") from None
    zoned = found.tzinfo is not None
    return Instant((found if zoned else found.replace(tzinfo=UTC)).timestamp(), ISO, zoned)
