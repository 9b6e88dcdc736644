"""What is wrong with a log, by kind: how often, where first, and what became of it.

A fault costs the line or the value it is in, unless there are so many that it is no accident: then the log is
refused, as it is for what would make all of it mean something else. Knows nothing of any log's form.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from bundle.errors import RerankerError

LARGEST_DIRT_SHARE = 0.05
"""More of a log's lines or values than this are not left out, unless somebody says so."""

MOST_TOLD = 10
"""Refusals told in one error; all of them are in the report."""


class EventLogError(RerankerError):
    """A log that is not to be learned from; the message names file, line and key."""


class Effect(StrEnum):
    """What becomes of it."""

    REFUSED = "refused"
    LEFT_OUT = "left out"  # the line, list or value; refused beyond the share
    DOUBTFUL = "doubtful"  # read as it stands; refused beyond the share
    SUSPECT = "suspect"  # read as it stands: what is learned may be wrong
    READ = "read"  # understood, said all the same


@dataclass
class Finding:
    """One kind of fault. `first` is file and line of the first, which `message` is about; `of` what is
    counted in `Findings.totals`."""

    kind: str
    effect: Effect
    of: str
    first: str
    message: str
    count: int = 0


class Findings:
    """Faults of a log by kind, and how many there are of what can have them."""

    def __init__(self, largest_dirt_share: float = LARGEST_DIRT_SHARE) -> None:
        self.totals: Counter[str] = Counter()
        self._largest = largest_dirt_share
        self._found: dict[tuple[str, str], Finding] = {}

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found.values())

    def add(
        self, kind: str, effect: Effect, of: str, where: str, message: str, about: str = "", count: int = 1
    ) -> None:
        """Count one more, or so many. `about` tells apart findings of a kind, such as those of each field."""
        found = self._found.setdefault((kind, about), Finding(kind, effect, of, where, message))
        found.count += count

    def refuses(self, finding: Finding) -> bool:
        """Whether the log is not to be learned from because of it."""
        if finding.effect in (Effect.LEFT_OUT, Effect.DOUBTFUL):
            return finding.count > self._largest * self.totals[finding.of]
        return finding.effect is Effect.REFUSED

    def told(self, finding: Finding) -> str:
        """In a line: where first, what, and how many of how many are so."""
        total, ends = self.totals[finding.of], ""
        if finding.effect in (Effect.LEFT_OUT, Effect.DOUBTFUL) and self.refuses(finding):
            ends = f", more than the {self._largest:.0%} allowed"
        elif finding.effect is Effect.LEFT_OUT:
            ends = " left out"
        many = ""
        if total:
            many = f" ({finding.count:,} of {total:,} {finding.of}{ends})"
        elif finding.count > 1:
            many = f" ({finding.count:,} times)"
        return f"{finding.first}: {finding.message}{many}".removeprefix(": ")

    @property
    def refusals(self) -> list[str]:
        """Why the log is not to be learned from, in a line each; none if it is fine."""
        return [self.told(finding) for finding in self._found.values() if self.refuses(finding)]

    def refuse(self) -> None:
        """Raises: EventLogError: there are refusals."""
        if refusals := self.refusals:
            more = [f"and {len(refusals) - MOST_TOLD} more"] if len(refusals) > MOST_TOLD else []
            raise EventLogError("\n".join(refusals[:MOST_TOLD] + more))
