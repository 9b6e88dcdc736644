"""What is asked of a new bundle before it goes live instead of another: one verdict a question.

Every question compares the two through the engine that serves them. A difference counts against the new one
only if it is established, which is when its 95 % interval leaves zero out. Legend: L lists, C columns.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.errors import RerankerError
from bundle.manifest import CONFIG, BundleError
from bundle.reference import Distribution, population_stability_index
from bundle.repository import locate
from decisions.reading import Joined, Tally, log_files, read_decisions
from engine.loaded_model import LoadedModel
from evidence.judging import ENOUGH, SHRUNK, Judgement
from evidence.logged_lists import LoggedLists, NothingToJudgeError, logged_lists
from evidence.off_policy import judge_model
from export.calibrate import milliseconds
from export.evaluate import generate, orders_of, reasoning_figures
from export.parity import check_bundle
from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.data.slate import LoggedSlate
from model.metrics import ndcg, paired_difference
from model.training.config import RunConfig
from model.training.examples import Example, examples

PARITY, CALIBRATION, HELD_OUT, LATENCY = "parity", "calibration", "held-out lists", "latency"
BY_LOG, DRIFT = "value by the decision log", "drift"
MAY_BE_ASIDE = (CALIBRATION, HELD_OUT, LATENCY, BY_LOG, DRIFT)

BINS = 10
"""Of a column, of equally many held-out candidates each."""


def _limit(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Limits:
    """What still passes; the help of `python -m export.promote` is made of this."""

    parity_lists: int = _limit(200, "random lists on which every exported path is compared with PyTorch")
    trigger_rate: float = _limit(
        0.05, "most by which the share of positions that reason may be off the calibrated one"
    )
    loss: float = _limit(
        0.01, "most that may be lost where nothing is established, as a share of the live model's"
    )
    time: float = _limit(1.2, "most milliseconds a list, in those of the live model")
    effective_lists: float = _limit(ENOUGH, "of the log, below which its value is not judged")
    unknown: float = _limit(0.05, "most candidates of the log that the catalogue may not know, as a share")
    drift: float = _limit(0.25, "highest population stability index of a column, held-out lists to the log")
    timed_lists: int = _limit(100, "lists that are timed")


@dataclass(frozen=True)
class Verdict:
    """Of one question. `passed` is None where there is no verdict; what is `aside` decides nothing."""

    question: str
    passed: bool | None
    because: str
    figures: dict[str, Any]
    aside: bool = False


def refused(found: Sequence[Verdict]) -> list[str]:
    """The questions that speak against it."""
    return [verdict.question for verdict in found if verdict.passed is False and not verdict.aside]


def verdicts(
    new: Path,
    live: Path,
    decisions: Path | None,
    limits: Limits,
    aside: Collection[str] = (),
    since: float = -math.inf,
) -> Iterator[Verdict]:
    """Ask everything of `new`, as long as what has been asked allows to go on.

    Args:
        aside: questions of `MAY_BE_ASIDE` that are asked, but do not decide.
        since: unix seconds; decisions from before are left out.

    Raises:
        BundleError: the live one cannot be served, or is the new one.
        DataUnavailableError: of the new one's dataset.
        DecisionLogError: the log cannot be read.
    """
    for verdict in _verdicts(new, live, decisions, limits, since):
        yield replace(verdict, aside=verdict.question in aside)


def _verdicts(
    new: Path, live: Path, decisions: Path | None, limits: Limits, since: float
) -> Iterator[Verdict]:
    if locate(new) == locate(live):
        raise BundleError(f"{new}: is the live one itself; export with --not-current to ask before it is")
    if decisions is not None:
        log_files(decisions)  # before anything that takes long
    served = LoadedModel.open(live)
    try:
        model = LoadedModel.open(new)
        check_bundle(new, random=limits.parity_lists, real=0)
    except RerankerError as fault:
        yield Verdict(PARITY, False, str(fault), {})
        return
    yield Verdict(PARITY, True, f"every exported path writes PyTorch's lists, {limits.parity_lists}", {})
    dataset = open_dataset(RunConfig.model_validate_json((locate(new) / CONFIG).read_bytes()))
    held_out = _examples(model, dataset.slates["validation"])
    yield calibration(model, held_out, limits)
    test = dataset.slates["test"]
    yield quality(model, served, test, dataset.true_value, limits)
    yield latency(model, served, test, limits)
    if decisions is None:
        for question in (BY_LOG, DRIFT):
            yield Verdict(question, None, "no decision log was given", {})
        return
    try:
        log = read_log(decisions, model, served, since)
    except NothingToJudgeError as fault:
        for question in (BY_LOG, DRIFT):
            yield Verdict(question, None, str(fault), {})
        return
    yield value(new, live, model, served, log, limits)
    yield drift(model, held_out, log, limits)


class Log(NamedTuple):
    """A decision log, read once for both models: the live one's lists that both can rank, as each sees them.

    Attributes:
        unknown: share of all candidates that the new one's catalogue lacks, and nothing was sent of.
        foreign: lists of other models.
    """

    new: LoggedLists
    live: LoggedLists
    tally: Tally
    unknown: float
    foreign: int

    def __str__(self) -> str:
        left_out = self.new.left_out + Counter({"of other models": self.foreign})
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        return f"{self.tally}" + (f"; left out: {told}" if told else "")


def read_log(decisions: Path, new: LoadedModel, live: LoadedModel, since: float = -math.inf) -> Log:
    """
    Raises:
        DecisionLogError: it cannot be read.
        NothingToJudgeError: no list of it can be judged by.
    """
    tally, counts, known = Tally(), Counter[str](), set(new.features.catalogue.ids)

    def counted() -> Iterator[Joined]:
        for joined in read_decisions(decisions, tally, since=since):
            if joined.decision.model != live.manifest.name:
                counts["foreign"] += 1
                continue
            items = joined.decision.items
            counts["asked"] += len(items)
            counts["unknown"] += sum(item.id not in known and not item.features for item in items)
            yield joined

    ours, theirs = logged_lists(counted(), [new.features, live.features])
    return Log(ours, theirs, tally, counts["unknown"] / counts["asked"], counts["foreign"])


def calibration(model: LoadedModel, held_out: Sequence[Example], limits: Limits) -> Verdict:
    """Does it reason as often on held-out lists as its threshold was set for?"""
    found, expected = reasoning_figures(generate(model, held_out)), model.manifest.gate
    rate, off = found["trigger_rate"], abs(found["trigger_rate"] - expected.trigger_rate)
    told = f"reasons at {rate:.1%} of held-out positions, calibrated for {expected.trigger_rate:.1%}"
    figures = {"trigger_rate": rate, "calibrated": expected.trigger_rate}
    passed = off <= limits.trigger_rate or not model.manifest.reasoning_budget
    return Verdict(CALIBRATION, passed, told, figures)


def quality(
    new: LoadedModel, live: LoadedModel, slates: Sequence[LoggedSlate], true_value: Any, limits: Limits
) -> Verdict:
    """Are its lists of test data worth as much? By their true value, where it is known."""
    labels = [slate.labels for slate in slates]
    worth: list[NDArray[np.floating]] = []
    for model in (new, live):
        orders = orders_of(generate(model, _examples(model, slates)))
        if true_value is None:
            worth.append(ndcg(orders, labels, 10))
        else:
            pairs = zip(slates, orders, strict=True)
            worth.append(np.array([true_value(slate, order.tolist()) for slate, order in pairs]))
    gap, lives = paired_difference([worth[0] - worth[1]]), float(np.nanmean(worth[1]))
    metric = "NDCG@10" if true_value is None else "true value"
    told = (
        f"{metric} {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] beside {lives:.4f}, {len(slates)} lists"
    )
    figures = {"metric": metric, "live": lives, "difference": gap._asdict(), "lists": len(slates)}
    return Verdict(HELD_OUT, gap.high >= 0 and gap.mean >= -limits.loss * lives, told, figures)


def latency(new: LoadedModel, live: LoadedModel, slates: Sequence[LoggedSlate], limits: Limits) -> Verdict:
    """Does a list take about as long?"""
    timed = slates[:: max(1, len(slates) // limits.timed_lists)]
    ours, theirs = (milliseconds(model, [{}], _examples(model, timed))[0] for model in (new, live))
    told = f"{ours:.3f} ms of CPU a list, the live one {theirs:.3f}: {ours / theirs:.2f} times"
    return Verdict(LATENCY, ours <= limits.time * theirs, told, {"new_ms": ours, "live_ms": theirs})


def value(
    new: Path, live: Path, model: LoadedModel, served: LoadedModel, log: Log, limits: Limits
) -> Verdict:
    """Is it worth as much by the decision log?"""
    try:
        ours, theirs = judge_model(model, new, log.new), judge_model(served, live, log.live)
    except ValueError as fault:
        return Verdict(BY_LOG, None, str(fault), {})
    verdict = by_log(ours, theirs, limits)
    return replace(verdict, because=f"{verdict.because}; {log}")


def by_log(new: Judgement, live: Judgement, limits: Limits) -> Verdict:
    """By cascade doubly robust with shrunk weights; no verdict where too few lists are as either's."""
    ours, theirs = new.estimates[SHRUNK], live.estimates[SHRUNK]
    assert ours.overlap is not None
    assert theirs.overlap is not None
    gap, effective = ours.minus(theirs), min(ours.overlap.effective, theirs.overlap.effective)
    told = f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] beside {theirs.value.value:.4f}"
    told += f", {new.lists} lists worth {effective:.0f}"
    figures: dict[str, Any] = {
        name: {"value": one.value._asdict(), "minus_log": one.difference._asdict()}
        for name, one in (("new", ours), ("live", theirs))
    }
    figures |= {"minus_live": gap._asdict(), "lists": new.lists, "effective_lists": effective}
    no_worse = gap.high >= 0 and gap.value >= -limits.loss * theirs.value.value
    enough = effective >= limits.effective_lists
    return Verdict(BY_LOG, no_worse if enough else None, "; ".join([told, *new.warnings()]), figures)


def drift(model: LoadedModel, held_out: Sequence[Example], log: Log, limits: Limits) -> Verdict:
    """Does it know the candidates that are asked for, and do they look like those it was trained on?"""
    by_column = column_drift(model.features.candidate_columns, held_out, log.new.examples)
    worst = max(by_column, key=lambda name: by_column[name])
    told = f"{log.unknown:.1%} of the log's candidates are not in its catalogue; of {len(by_column)} columns "
    told += f"{worst} moved most, stability index {by_column[worst]:.2f}"
    passed = log.unknown <= limits.unknown and by_column[worst] <= limits.drift
    return Verdict(DRIFT, passed, told, {"unknown": log.unknown, "stability_index": by_column})


def column_drift(
    columns: Sequence[str], held_out: Sequence[Example], logged: Sequence[Example]
) -> dict[str, float]:
    """Population stability index of each numeric column of candidates, held-out lists to logged. `[C]`."""
    expected, actual = (
        np.concatenate([row.inputs["candidate_numeric"] for row in rows]) for rows in (held_out, logged)
    )
    found = {}
    for column, name in enumerate(columns):
        inner = np.quantile(expected[:, column], np.linspace(0, 1, BINS + 1)[1:-1])
        bounds = np.unique(inner).tolist()
        counts = [Distribution.of(values[:, column], bounds).counts for values in (expected, actual)]
        found[name] = population_stability_index(*counts)
    return found


def _examples(model: LoadedModel, slates: Sequence[LoggedSlate]) -> list[Example]:
    return examples(slates, DatasetFeatures(model.features), training=False)
