"""Train a policy from a log: `python -m model.train --config configs/ranklens.toml --run runs/ranklens`.

Features, evaluators, supervised warm start, imitation, expert iteration, GRPO, threshold: in that order, each
resumed if the run was killed. The run directory then holds everything `python -m export` needs.
`torchrun --standalone --nproc-per-node 2 -m -- model.train ...` does the same in two processes.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape

from bundle.errors import faults_told
from bundle.manifest import EVALUATOR_WEIGHTS, POLICY
from model.data.check import open_checked
from model.data.features import DatasetFeatures
from model.data.fingerprint import fingerprint
from model.evaluator import ClickModel
from model.policy import Policy
from model.sizes import feature_sizes
from model.training import devices, ranks
from model.training.calibration import calibrate
from model.training.checkpoint import (
    GATE,
    REFUSED,
    SUMMARY,
    CheckpointError,
    alone_in,
    claim,
    has_evaluator,
    load_start,
    save_features,
    save_tensors,
    save_text,
)
from model.training.config import RunConfig, read_config, with_changes
from model.training.context import report_context
from model.training.evaluator_report import EvaluatorRejectedError, EvaluatorReport
from model.training.examples import examples
from model.training.fit_evaluator import train_evaluator
from model.training.fit_policy import fit_policy
from model.training.phase import RunLog
from model.training.selection import evaluator_score, held_out_score

QUICK = {
    "training_lists": 2000,
    "evaluator": {"members": 1, "epochs": 4, "context": False},
    "supervised": {"epochs": 3},
    "imitation": {"epochs": 3},
    "expert_iteration": {"rounds": 0},
    "reinforcement": {"epochs": 1},
}
"""The most that `--quick` leaves of each: a run of minutes that shows the whole path, not the best model.
What is set to less, or to nothing, stays as it is."""

NOT_ASKED = (
    "whether lists may gain from reasoning was not asked, as it never is with --quick: "
    "`python -m model.data context` tells"
)


def quick(config: RunConfig) -> RunConfig:
    """The same phases, none of them longer than `QUICK` says."""
    return with_changes(config, at_most(config.model_dump(), QUICK))


def at_most(values: Mapping[str, Any], bounds: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that have bounds, in tables too, none larger than its bound; None is unbounded."""
    found: dict[str, Any] = {}
    for name, bound in bounds.items():
        value = values[name]
        if isinstance(bound, Mapping):
            found[name] = at_most(value, bound)
        else:
            found[name] = bound if value is None else min(value, bound)
    return found


def phases_ahead(config: RunConfig, warm: bool, with_evaluator: bool) -> dict[str, int]:
    """The most epochs of each phase in its turn, by the name that its lines begin with.

    Args:
        warm: the weights are an earlier run's.
        with_evaluator: one is trained.
    """
    found: dict[str, int] = {}
    if with_evaluator:
        settings = config.evaluator
        for number in range(1, settings.members + 1):
            name = f"evaluator_{number}" if number > 1 else "evaluator"
            found[name] = settings.warm_epochs if warm else settings.epochs
        found["blind_evaluator"] = settings.epochs if settings.context else 0
    found |= {"warm_start": config.supervised.epochs, "imitation": config.imitation.epochs}
    for number in range(1, config.expert_iteration.rounds + 1):
        found[f"expert_iteration_{number}"] = config.expert_iteration.epochs
    found["grpo"] = config.reinforcement.epochs
    return {name: epochs for name, epochs in found.items() if epochs}


def train(config: RunConfig, run: Path, start: Path | None = None, require_evaluator: bool = False) -> None:
    """Train into `run`; returns at once if the run is already finished.

    Args:
        start: an earlier run, whose weights evaluators and policy start from, and whose vocabularies and
            scales they keep.
        require_evaluator: have one, for lookahead, whether or not the policy learns from it.

    Raises:
        DataUnavailableError: the data is unavailable.
        EventLogError: the log is not to be learned from.
        EvaluatorRejectedError: the evaluator failed its checks, and it is required or nothing else is to be
            learned.
        CheckpointError: `run` holds a run with another configuration, or of another log, or one that is
            going on; or none can start from `start`.
        RanksError: other processes that train with this one have another configuration or log, or are lost.
        ValueError: the policy is to start from scores, and no training list came with any.
    """
    with ranks.directory(run) as own, alone_in(own):
        _train(config, own, start, require_evaluator)


def _train(config: RunConfig, run: Path, start: Path | None, require_evaluator: bool) -> None:
    ranks.same(config.model_dump_json(), "the configuration")
    log_sha256 = ranks.same(fingerprint(config), f"the log {config.event_log}")
    claim(run, config, log_sha256)
    log = RunLog(run)
    if devices.device() != devices.CPU:
        log.say(f"trains on {devices.device()}, which its authors never tried; see docs/training.md")
    if ranks.from_first((run / SUMMARY).exists()):
        if require_evaluator and not ranks.from_first(has_evaluator(run)):
            raise CheckpointError(f"{run} is already trained, without an evaluator; give another --run")
        log.say(f"{run} is already trained")
        return
    started = time.monotonic()

    dataset = open_checked(config, log.say)
    if config.policy.base_score and all(slate.scores is None for slate in dataset.slates["train"]):
        raise ValueError(
            "policy.base_score: no training list came with scores; `python -m model.first_stage` makes some"
        )
    fitted, policy, earlier = (None, None, None) if start is None else load_start(start, config)
    by_evaluator = config.selection == "evaluator"
    with_evaluator = bool(config.learns_from_evaluator or by_evaluator or require_evaluator)
    ahead = phases_ahead(config, start is not None, with_evaluator)
    log.say("ahead, at most: " + ", ".join(f"{name} {epochs} epochs" for name, epochs in ahead.items()))
    features = DatasetFeatures.fit(dataset, config.features, fitted=fitted)
    save_features(run, features.serving)
    sizes = feature_sizes(features.serving)
    training = examples(dataset.slates["train"][: config.training_lists], features, training=True)
    held_out = examples(dataset.slates["validation"], features, training=False)
    people = [slate.user_id for slate in dataset.slates["validation"]]

    evaluator: ClickModel | None = None
    reports: list[EvaluatorReport] = []
    worth = rejected = None
    if with_evaluator:
        evaluator, reports = train_evaluator(config, run, log, sizes, training, held_out, earlier)
        if config.evaluator.context:
            columns = features.serving.candidate_columns
            worth = report_context(config, run, log, columns, sizes, evaluator, training, held_out, people)
        try:
            for report in reports:
                report.check(config.evaluator.largest_calibration_error)
            save_tensors(run / EVALUATOR_WEIGHTS, evaluator.state_dict())
        except EvaluatorRejectedError as error:
            evaluator, rejected = None, str(error)
            if require_evaluator or not config.supervised.epochs:
                save_text(run / REFUSED, rejected)
                raise EvaluatorRejectedError(f"{rejected}. {_ways_out(config)}") from None
    learned = config if evaluator is not None else config.without_evaluator()
    left_out = [phase for phase in config.learns_from_evaluator if phase not in learned.learns_from_evaluator]
    if rejected:
        log.say(f"{escape(rejected)}; going on with the warm start alone, without {', '.join(left_out)}")

    score = held_out_score(dataset)
    if by_evaluator and evaluator is not None:
        score = evaluator_score(evaluator, held_out)
    torch.manual_seed(config.seed)
    policy = (policy or Policy(config.policy, sizes)).to(devices.device())
    lists = training[-config.policy_lists :] if config.policy_lists else training
    scores = fit_policy(learned, run, log, policy, evaluator, lists, held_out, score, warm=start is not None)
    kept = max(scores, key=lambda phase: scores[phase])
    gate = calibrate(policy, held_out, config.policy.reasoner.gate_quantile)

    save_text(run / GATE, gate.model_dump_json(indent=2))
    result = {
        "dataset": dataset.name,
        "log_sha256": log_sha256,
        "seed": config.seed,
        "device": devices.device().type,
        "training_lists": len(training),
        "kept": kept,
        "held_out": scores,
        "evaluator": reports[0].model_dump() if reports else None,
        "evaluator_rejected": rejected,
        "left_out": left_out,
        "context": worth and worth.model_dump(),
        "seconds": round(time.monotonic() - started, 1),
    }
    save_tensors(run / POLICY, policy.state_dict())
    save_text(run / SUMMARY, json.dumps(result, indent=2))
    log.say(
        f"kept the {kept}: held-out scores "
        + ", ".join(f"{phase} {value:.4f}" for phase, value in scores.items())
        + f"; the gate reasons "
        f"above {gate.threshold:.4f} at {gate.trigger_rate:.0%} of positions, "
        f"{gate.tokens_per_list:.2f} tokens a list"
    )
    log.say(escape(str(worth or NOT_ASKED)))
    if rejected:
        missing = ", ".join((*left_out, "lookahead when serving"))
        log.say(f"[yellow]without {missing}: {escape(rejected)} (--require-evaluator makes it an error)[/]")
    log.close()


def _ways_out(config: RunConfig) -> str:
    """What can be done about a run that was refused."""
    otherwise = "no --require-evaluator" if config.supervised.epochs else "a warm start ([supervised] epochs)"
    return f"Ways out: more training lists, better features, or {otherwise}; this --run may be used again"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.train", description=__doc__.split("\n\n")[1])
    parser.add_argument("--config", type=Path, default=Path("configs/ranklens.toml"), help="TOML file")
    parser.add_argument("--run", type=Path, required=True, help="directory of the run; resumed if it exists")
    parser.add_argument(
        "--event-log", type=Path, help="your own log in the event format, or the directory of a decision log"
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="a finished run, whose weights this one starts from and whose scales it keeps",
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--quick", action="store_true", help="a few minutes, not the best model")
    parser.add_argument(
        "--require-evaluator",
        action="store_true",
        help="train one, for lookahead, even if no phase learns from it; an error if it fails its checks",
    )
    parser.add_argument(
        "--device",
        choices=devices.ASKED,
        default="auto",
        help="where networks are trained: a GPU if PyTorch finds one (auto), or as said",
    )
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=ranks.TIMEOUT_S,
        help="how long a process of several waits for the others before it takes them for lost",
    )
    arguments = parser.parse_args()
    changes: dict[str, object] = {"seed": arguments.seed} if arguments.seed is not None else {}
    if arguments.event_log:
        changes |= {"dataset": "event_log", "event_log": arguments.event_log}
    try:
        with faults_told(ValueError), ranks.joined(arguments.timeout_s, arguments.device):
            config = read_config(arguments.config, changes)
            config = quick(config) if arguments.quick else config
            train(config, arguments.run, arguments.start, arguments.require_evaluator)
    except KeyboardInterrupt:
        raise SystemExit(ranks.STOPPED) from None


if __name__ == "__main__":
    main()
