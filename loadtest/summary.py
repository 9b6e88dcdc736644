"""A run in one JSON object: what was offered, what was measured, level by level and second by second."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadtest.shapes import Level
    from loadtest.timeline import Part, Timeline

SETTLING_S = 1.0
"""Left out at the start of each level, while streams are started or stopped; the rest is whole seconds."""


def summarise(
    timeline: "Timeline", started_s: float, levels: Sequence["Level"], rate_per_user: float | None
) -> dict[str, Any]:
    """Figures of a run.

    Args:
        started_s: unix seconds.
        rate_per_user: requests per second that one user sends in an open loop; None for a closed one.
    """

    def offered(users: int) -> float | None:
        return None if rate_per_user is None else users * rate_per_user

    def level(part: "Level") -> dict[str, Any]:
        start, end = settled(started_s, part)
        figures = _figures(timeline.part(start, end), max(0, end - start))
        return {**part._asdict(), "offered_per_s": offered(part.users), **figures}

    run_time_s = levels[-1].end_s
    return {
        "started": datetime.fromtimestamp(started_s, UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "run_time_s": run_time_s,
        "most_offered_per_s": offered(max(level.users for level in levels)),
        **_figures(timeline.whole(), run_time_s),
        "levels": [level(part) for part in levels],
        "seconds": [
            {
                "at_s": second,
                **_figures(timeline.part(int(started_s) + second, int(started_s) + second + 1), 1),
            }
            for second in range(int(run_time_s) + 1)
        ],
    }


def settled(started_s: float, level: "Level") -> tuple[int, int]:
    """The whole unix seconds that a level is judged by."""
    return ceil(started_s + level.start_s + SETTLING_S), floor(started_s + level.end_s)


def _figures(part: "Part", seconds: float) -> dict[str, Any]:
    return {
        "reranks": part.reranks,
        "reranks_per_s": round(part.reranks / seconds, 2) if seconds else None,
        "p50_ms": _rounded(part.percentile_ms(0.5)),
        "p90_ms": _rounded(part.percentile_ms(0.9)),
        "p99_ms": _rounded(part.percentile_ms(0.99)),
        "error_ratio": round(part.error_ratio, 6),
        "fallback_ratio": round(part.fallback_ratio, 6),
        "storeless_ratio": round(part.storeless_ratio, 6),
        "late_ratio": round(part.late_ratio, 6),
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else float(f"{milliseconds:.3g}")


def hardware() -> str:
    """Such as `2 x AMD EPYC, 24 GiB`: of the machine that sends the load."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].strip() if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB"
