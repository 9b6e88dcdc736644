"""What a log holds and what is wrong with it, before anything is learned from it.

The report of `python -m model.data check` and of the start of every training on a log of one's own.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.markup import escape

from bundle.features.schema import FeatureSchema, Frozen
from model.data.config import DataConfig
from model.data.coverage import Covered, covered, judge, undeclared
from model.data.findings import Effect, Findings
from model.data.leaks import suspect
from model.data.open_dataset import read_dataset
from model.data.overview import Overview, slates_of
from model.data.slate import SPLITS, Dataset, Split

MOST_POSITIONS = 20
"""Positions whose labels the text tells."""


class Told(Frozen):
    """A finding as the report has it. `refused` is whether the log is not learned from because of it."""

    kind: str
    effect: str
    refused: bool
    count: int
    of: str
    total: int
    first: str
    message: str
    line: str


class SplitSize(Frozen):
    lists: int
    people: int


class Report(Frozen):
    """A log in figures.

    Attributes:
        lists: that can be used; `dropped` counts the others by reason.
        items: in these lists; `described` of them have a record of their own.
        candidates: fewest, median and most of a list.
        labels_by_position: share of the lists that show something at each position in which it was clicked.
        lists_by_person: fewest, median and most; `anonymous` lists are nobody's.
        since, until: ISO 8601; None where there is no list.
    """

    name: str
    lists: int
    dropped: dict[str, int]
    people: int
    anonymous: int
    items: int
    described: int
    candidates: tuple[int, float, int]
    lists_by_person: tuple[int, float, int]
    splits: dict[Split, SplitSize]
    since: str | None
    until: str | None
    interaction_types: dict[str, int]
    labels_by_position: tuple[float, ...]
    coverage: tuple[Covered, ...]
    undeclared: tuple[Covered, ...]
    findings: tuple[Told, ...]

    @property
    def refused(self) -> bool:
        return any(finding.refused for finding in self.findings)

    def to_json(self) -> str:
        return json.dumps({"refused": self.refused, **self.model_dump()}, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        return "\n".join(_text(self))


def check(dataset: Dataset, schema: FeatureSchema) -> tuple[Report, Findings]:
    """Judge a log against its schema. The findings are the data set's own and what was found here."""
    found = dataset.findings or Findings()
    overview = Overview(dataset, schema)
    judge(dataset, schema, overview, found)
    suspect(slates_of(dataset), dataset.items, schema, found)
    return _report(dataset, schema, overview, found), found


def open_checked(config: DataConfig, say: Callable[[str], None]) -> Dataset:
    """The configured data set, and in a line what it holds; of a log of one's own, the whole report.

    Raises:
        DataUnavailableError: the data is not here and cannot be downloaded.
        EventLogError: the log is not to be learned from.
        DecisionLogError, TableError: it is malformed.
    """
    dataset = read_dataset(config)
    if config.dataset == "event_log":
        report, found = check(dataset, config.features)
        say(escape(str(report)))
        found.refuse()
    else:
        say(dataset.summary())
    return dataset


def _report(dataset: Dataset, schema: FeatureSchema, overview: Overview, found: Findings) -> Report:
    times = np.concatenate([overview.times[split] for split in SPLITS])
    by_person = overview.lists_by_person
    return Report(
        name=dataset.name,
        lists=len(times),
        dropped=dict(dataset.dropped),
        people=len(by_person),
        anonymous=overview.anonymous,
        items=len(overview.items),
        described=len(overview.items.keys() & dataset.items.keys()),
        candidates=_spread(sorted(overview.sizes.elements())),
        lists_by_person=_spread(by_person),
        splits={
            split: SplitSize(lists=overview.lists[split], people=len(overview.people[split]))
            for split in SPLITS
        },
        since=_date(times.min()) if len(times) else None,
        until=_date(times.max()) if len(times) else None,
        interaction_types=dict(Counter(dataset.interaction_types).most_common()),
        labels_by_position=tuple(overview.labels_by_position),
        coverage=tuple(covered(overview, schema)),
        undeclared=tuple(undeclared(overview, schema)),
        findings=tuple(
            Told(
                kind=one.kind,
                effect=one.effect,
                refused=found.refuses(one),
                count=one.count,
                of=one.of,
                total=found.totals[one.of],
                first=one.first,
                message=one.message,
                line=found.told(one),
            )
            for one in found
        ),
    )


def _spread(counts: Sequence[int]) -> tuple[int, float, int]:
    """Fewest, median and most of counts in order."""
    return (counts[0], float(np.median(counts)), counts[-1]) if counts else (0, 0.0, 0)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _text(report: Report) -> list[str]:
    kept, lost = report.lists, sum(report.dropped.values())
    fewest, median, most = report.candidates
    lines = [
        f"{report.name}: {kept:,} lists of {fewest} to {most} items ({median:g} in the median), "
        f"{report.people:,} people" + (f", {report.anonymous:,} anonymous lists" * bool(report.anonymous)),
        f"items       {report.items:,} in lists, {report.described:,} with a record of their own",
        "splits      "
        + ", ".join(
            f"{split} {size.lists:,} lists of {size.people:,} people" for split, size in report.splits.items()
        )
        + "; everybody is in one",
    ]
    if report.since:
        lines.append(f"time        {report.since} to {report.until}")
    if report.people:
        fewest, median, most = report.lists_by_person
        lines.append(f"a person    {fewest} to {most} lists, {median:g} in the median")
    events = _counts(report.interaction_types)
    lines.append(f"events      {f'{events}, in all lists, those left out too' if events else 'none'}")
    shares = " ".join(f"{share:.3f}" for share in report.labels_by_position[:MOST_POSITIONS])
    lines.append(f"labels      by position: {shares or 'none'}")
    if lost:
        reasons = _counts(report.dropped)
        lines.append(f"left out    {lost:,} of {kept + lost:,} lists: {reasons}; they still are history")
    lines += [f"field       {one.scope} {one}" for one in report.coverage]
    if report.undeclared:
        names = ", ".join(
            f"{one.scope} `{one.name}` ({one.present:,} of {one.total:,})" for one in report.undeclared
        )
        lines.append(f"not read    {names}: not declared in [features]")
    for title, wanted in _SECTIONS.items():
        told = [
            one.line for one in report.findings if (title == REFUSED) == one.refused and one.effect in wanted
        ]
        lines += [title, *(f"  {line}" for line in told)] if told else []
    return lines


REFUSED = "refused, nothing can be learned until this is put right:"
_SECTIONS: Mapping[str, Sequence[Any]] = {
    "read all the same:": [Effect.READ],
    "left out, and counted:": [Effect.LEFT_OUT],
    "likely wrong:": [Effect.SUSPECT, Effect.DOUBTFUL],
    REFUSED: list(Effect),
}
"""The gravest last, where a terminal stops."""


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
