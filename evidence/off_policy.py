"""What a bundle would be worth, from the log of another:

    python -m evidence.off_policy --decisions DIR --bundle NEW

Expected positives a list by seven estimators (`evidence.estimators`), each beside what the lists of the log
brought. The bundle is judged as if it explored as the log did, unless it is told how; judged greedily, most
of its lists were never shown. Judge by a log that the bundle has not learned from.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from bundle.errors import faults_told
from bundle.manifest import CONFIG
from bundle.repository import locate
from bundle.timestamps import unix_time
from decisions.reading import WINDOW_S, Tally, read_decisions
from engine.loaded_model import LoadedModel
from evidence.click_models import FOLDS, CrossFitted
from evidence.judged_policy import ServedPolicy
from evidence.judging import DRAWS, NAMES, Judgement, judge
from evidence.logged_lists import LoggedLists, logged_lists
from model.progress import console
from model.sizes import feature_sizes
from model.training.config import RunConfig


def judge_bundle(
    decisions: Path,
    bundle: Path,
    window_s: float = WINDOW_S,
    share: float | None = None,
    temperature: float | None = None,
    folds: int = FOLDS,
    draws: int = DRAWS,
    since: float = -math.inf,
) -> tuple[Judgement, LoggedLists, Tally]:
    """Judge a bundle by a log.

    Args:
        share, temperature: of its exploration; as the log has it where they are None.
        since: unix seconds; lists from before are left out.

    Raises:
        DecisionLogError, BundleError: of the two that cannot be read.
        NothingToJudgeError: no list of the log can be judged by.
        ValueError: there are too few people to fit click models to.
    """
    model, tally = LoadedModel.open(bundle), Tally()
    (lists,) = logged_lists(read_decisions(decisions, tally, window_s, since), [model.features])
    return judge_model(model, bundle, lists, share, temperature, folds, draws), lists, tally


def judge_model(
    model: LoadedModel,
    bundle: Path,
    lists: LoggedLists,
    share: float | None = None,
    temperature: float | None = None,
    folds: int = FOLDS,
    draws: int = DRAWS,
) -> Judgement:
    """Judge the model of a bundle by lists that were read for it.

    Raises:
        ValueError: there are too few people to fit click models to.
    """
    config = RunConfig.model_validate_json((locate(bundle) / CONFIG).read_bytes())
    sizes, people = feature_sizes(model.features), lists.people.tolist()
    click_models = CrossFitted.fit(config, sizes, lists.examples, people, folds)
    shares = lists.share if share is None else np.full(len(lists), share)
    temperatures = lists.temperature if temperature is None else np.full(len(lists), temperature)
    return judge(lists, ServedPolicy(model), click_models, shares, temperatures, draws)


def show(found: Judgement) -> None:
    table = Table(title=f"expected positives a list, {found.lists} lists")
    for column in ("", "value", "minus the log's", "effective lists", "largest weight", "zero weight"):
        table.add_column(column)
    table.add_row("the log's own lists", str(found.logged), "", str(found.lists), "", "")
    for name, one in found.estimates.items():
        told, stands_on = ["", "", ""], one.overlap
        if stands_on is not None:
            told = [f"{stands_on.effective:.0f}", f"{stands_on.largest:.1f}", f"{stands_on.unsupported:.0%}"]
        table.add_row(f"{NAMES[name]} ({name})", str(one.value), str(one.difference), *told)
    console.print(table)
    for warning in found.warnings():
        console.print(f"[bold]Warning[/]: {warning}")


def as_json(found: Judgement) -> dict[str, object]:
    return {
        "lists": found.lists,
        "logged": found.logged._asdict(),
        "predicted_of_logged": found.predicted,
        "estimates": {
            name: {
                "value": one.value._asdict(),
                "minus_logged": one.difference._asdict(),
                "overlap": one.overlap and one.overlap._asdict(),
            }
            for name, one in found.estimates.items()
        },
        "warnings": found.warnings(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.off_policy", description=__doc__.split("\n\n")[2]
    )
    parser.add_argument("--decisions", type=Path, required=True, help="directory of a decision log")
    parser.add_argument("--bundle", type=Path, required=True, help="of the policy that is judged")
    parser.add_argument(
        "--since",
        type=unix_time,
        default=-math.inf,
        help="leave out lists from before: ISO 8601 or unix time",
    )
    parser.add_argument("--window", type=float, default=WINDOW_S, help="seconds in which feedback counts")
    parser.add_argument("--share", type=float, help="of its lists that are sampled; as the log has it")
    parser.add_argument("--temperature", type=float, help="that they are sampled at; as the log has it")
    parser.add_argument(
        "--folds", type=int, default=FOLDS, help="of people, to fit click models to the others"
    )
    parser.add_argument(
        "--draws", type=int, default=DRAWS, help="lists of the policy that these judge, a list"
    )
    parser.add_argument("--json", type=Path, help="file for the same figures")
    given = parser.parse_args(arguments)
    if given.share is not None and not 0 <= given.share <= 1:
        parser.error(f"--share: expected 0 to 1, got {given.share}")
    if given.temperature is not None and not 0 < given.temperature < math.inf:
        parser.error(f"--temperature: expected more than 0, got {given.temperature}")
    for name, least in (("folds", 2), ("draws", 1)):
        if getattr(given, name) < least:
            parser.error(f"--{name}: expected {least} at least, got {getattr(given, name)}")
    torch.set_num_threads(1)
    with faults_told(ValueError):
        found, lists, tally = judge_bundle(
            given.decisions,
            given.bundle,
            given.window,
            given.share,
            given.temperature,
            given.folds,
            given.draws,
            given.since,
        )
    console.print(f"{given.decisions}: {tally}")
    if lists.left_out:
        left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(lists.left_out.items()))
        console.print(f"left out: {left_out}")
    show(found)
    if given.json:
        given.json.write_text(json.dumps(as_json(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
