"""Service level objectives and the verdict on a run. Knows nothing of Locust."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Objectives:
    """Upper limits. Ratios are between 0 and 1."""

    p99_ms: float
    error_ratio: float
    fallback_ratio: float


@dataclass(frozen=True)
class Measured:
    """A run.

    Attributes:
        requests, errors: of every kind; an answer that is wrong is an error too.
        reranks, fallbacks: reranks, and those of them answered with the caller's order.
        p99_ms: of reranks, fallbacks and errors included.
        exceptions: of the load test itself.
    """

    requests: int
    errors: int
    reranks: int
    fallbacks: int
    p99_ms: float
    exceptions: int = 0


def breaches(objectives: Objectives, measured: Measured) -> list[str]:
    """One line for each objective that was not met; none is a pass. Nothing measured is not a pass."""
    lines = []
    if measured.exceptions:
        lines.append(f"the load test itself failed {measured.exceptions} times")
    if not measured.reranks:
        lines.append("no rerank was sent")
    figures = {
        "rerank p99 in ms": (measured.p99_ms, objectives.p99_ms),
        "error ratio": (_ratio(measured.errors, measured.requests), objectives.error_ratio),
        "fallback ratio": (_ratio(measured.fallbacks, measured.reranks), objectives.fallback_ratio),
    }
    lines += [f"{name}: {got:g}, at most {most:g}" for name, (got, most) in figures.items() if got > most]
    return lines


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
