"""Service level objectives and the verdict on a run, or on a level of its load. Knows nothing of Locust."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadtest.timeline import Part

ENOUGH = 100
"""Reranks of a level without which the 99th percentile is whatever was slowest."""


@dataclass(frozen=True)
class Objectives:
    """Upper limits, the first two those of production (deploy/prometheus/rules). Ratios: 0 to 1."""

    p99_ms: float = 50.0
    error_ratio: float = 0.001
    fallback_ratio: float = 0.01
    storeless_ratio: float = 0.001


@dataclass(frozen=True)
class Measured:
    """A run, or a level of it.

    Attributes:
        requests, errors: of every kind; an answer that is wrong is an error too.
        reranks, fallbacks: reranks, and those of them answered with the caller's order.
        storeless: reranks whose user the service could not look up, though it answered.
        p99_ms: of reranks, fallbacks and errors included; None if they are too few to tell.
        exceptions: of the load test itself.
    """

    requests: int
    errors: int
    reranks: int
    fallbacks: int
    p99_ms: float | None
    exceptions: int = 0
    storeless: int = 0

    @classmethod
    def of(cls, part: "Part", exceptions: int = 0, enough: int = 0) -> "Measured":
        p99_ms = part.percentile_ms(0.99) if part.reranks >= enough else None
        return cls(
            part.requests, part.errors, part.reranks, part.fallbacks, p99_ms, exceptions, part.storeless
        )


def breaches(objectives: Objectives, measured: Measured) -> list[str]:
    """One line for each objective that was not met; none is a pass. Nothing measured is not a pass."""
    lines = []
    if measured.exceptions:
        lines.append(f"the load test itself failed {measured.exceptions} times")
    if not measured.reranks:
        lines.append("no rerank was sent")
    figures = {
        "rerank p99 in ms": (measured.p99_ms or 0.0, objectives.p99_ms),
        "error ratio": (_ratio(measured.errors, measured.requests), objectives.error_ratio),
        "fallback ratio": (_ratio(measured.fallbacks, measured.reranks), objectives.fallback_ratio),
        "storeless ratio": (_ratio(measured.storeless, measured.reranks), objectives.storeless_ratio),
    }
    lines += [f"{name}: {got:g}, at most {most:g}" for name, (got, most) in figures.items() if got > most]
    return lines


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
