"""The tables of docs/reliability.md, from stored results."""

import json
from pathlib import Path
from typing import Any

from evidence import pages

FAULTS, SOAK = (pages.ROOT / f"docs/results/{name}.json" for name in ("faults", "soak"))
PAGES = ("docs/reliability.md",)
COLUMNS = ("sent", "answered", "degraded", "failed", "p99_ms", "accepted", "lost", "doubled")
MISSING = "Not measured yet."


def stored(path: Path) -> dict[str, Any]:
    """Empty where there is nothing."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def blocks() -> dict[str, str]:
    """By their names on the page."""
    return {"faults": faults_table(stored(FAULTS)), "soak": soak_table(stored(SOAK))}


def faults_table(rows: dict[str, dict[str, Any]]) -> str:
    """A line a fault, in the order they were first run, and what they were run on."""
    if not rows:
        return MISSING
    header = ["fault", "sent", "answered", "degraded", "failed", "p99 ms", "events", "lost", "doubled", "why"]
    lines = [
        [
            row["fault"],
            *(row[column] for column in COLUMNS),
            why(row),
        ]
        for row in rows.values()
    ]
    found = sorted({f"{row['hardware']}; commit {row['commit']}" for row in rows.values()})
    return pages.table(header, lines) + "\n\n" + ". ".join(found) + "."


def why(row: dict[str, Any]) -> str:
    """What was degraded or failed by reason, and what else was measured."""
    reasons = [f"{reason} {count}" for reason, count in sorted(row["reasons"].items())]
    return ", ".join([*reasons, *(f"{name} {value}" for name, value in row.get("measured", {}).items())])


def soak_table(found: dict[str, Any]) -> str:
    """A line a sample, and what callers saw."""
    if not found:
        return MISSING
    header = ["minutes", "resident MiB", "threads", "open files", "keys in Redis"]
    counts = ", ".join(f"{name} {found[name]}" for name in ("sent", "answered", "degraded", "failed"))
    below = f"Reranks: {counts}; p99 {found['p99_ms']} ms. {found['hardware']}; commit {found['commit']}."
    return pages.table(header, [list(sample.values()) for sample in found["samples"]]) + "\n\n" + below
