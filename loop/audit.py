"""What callers saw held against what the decision log says."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep

from decisions.files import new_name
from decisions.lines import Decision, Feedback
from decisions.reading import Tally, log_files, read_lines
from loop.live import FLUSH_S
from loop.traffic import Shown

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Audit:
    """Of the lists and the feedback of some people.

    Attributes:
        decisions: lists in the log.
        unseen: of these, lists that nobody got, and lines too many of the others.
        missing: lists that somebody got, but are not in the log.
        events: in the log, each counted once.
        lost: clicks that were accepted, but are not in the log.
        doubled: lines too many of a click.
        unknown: events in the log that nobody was told had been accepted.
    """

    decisions: int
    unseen: int
    missing: int
    events: int
    lost: int
    doubled: int
    unknown: int

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return not (self.lost or self.missing)


def audit(decisions: Path, shown: Sequence[Shown]) -> Audit:
    """Count each line of these people; reading it for training would leave doubled events out silently.

    Raises:
        DecisionLogError: a line is wrong.
    """
    people = {one.user_id for one in shown}
    lists: Counter[str | None] = Counter()
    events: Counter[str | None] = Counter()
    for path in log_files(decisions):
        for _, line in read_lines(path, Tally()):
            if line.user_id in people:
                if isinstance(line, Decision):
                    lists[line.id] += 1
                elif isinstance(line, Feedback):
                    events.update(outcome.event_id for outcome in line.outcomes)
    got = {one.recommendation_id for one in shown}
    accepted = {event for one in shown for event in one.accepted}
    return Audit(
        decisions=lists.total(),
        unseen=lists.total() - sum(one in lists for one in got),
        missing=sum(one not in lists for one in got),
        events=len(events),
        lost=sum(event not in events for event in accepted),
        doubled=events.total() - len(events),
        unknown=sum(event not in accepted for event in events),
    )


def settled(decisions: Path, shown: Sequence[Shown]) -> dict[str, int]:
    """The audit as soon as nothing is missing, or when nothing more can be expected."""
    give_up = monotonic() + PATIENCE_S
    while True:
        sleep(2 * FLUSH_S)
        found = audit(decisions, shown)
        if found.whole or monotonic() > give_up:
            return asdict(found)


def copy_lines(decisions: Path, people: Collection[str], target: Path) -> None:
    """The lines of these people as a decision log of their own, in place of what is there.

    Raises:
        DecisionLogError: a line is wrong.
    """
    target.mkdir(parents=True, exist_ok=True)
    for earlier in target.iterdir():
        earlier.unlink()
    with (target / new_name()).open("wb") as file:
        for path in log_files(decisions):
            for text, line in read_lines(path, Tally()):
                if line.user_id in people:
                    file.write(text.rstrip(b"\n") + b"\n")
