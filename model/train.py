"""Train a policy from a log: `python -m model.train --config configs/ranklens.toml --run runs/ranklens`.

Features, evaluators, supervised warm start, imitation, expert iteration, GRPO, threshold: in that order, each
resumed if the run was killed. The run directory then holds everything `python -m export` needs.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from bundle.errors import RerankerError
from bundle.manifest import CONFIG, EVALUATOR_WEIGHTS, POLICY
from model.data.check import open_checked
from model.data.features import DatasetFeatures
from model.policy import Policy
from model.sizes import feature_sizes
from model.training.calibration import calibrate
from model.training.checkpoint import (
    GATE,
    SUMMARY,
    CheckpointError,
    load_config,
    save_features,
    save_tensors,
    save_text,
)
from model.training.config import RunConfig, read_config
from model.training.context import report_context
from model.training.examples import examples
from model.training.fit_evaluator import train_evaluator
from model.training.fit_policy import fit_policy
from model.training.phase import RunLog
from model.training.selection import held_out_score

QUICK = {
    "training_lists": 2000,
    "evaluator": {"members": 1, "epochs": 4, "context": False},
    "supervised": {"epochs": 3},
    "expert_iteration": {"rounds": 0},
    "reinforcement": {"epochs": 1},
}
"""What `--quick` changes: a run of a minute or two that shows the whole path, not the best model."""


def train(config: RunConfig, run: Path) -> None:
    """Train into `run`; returns at once if the run is already finished.

    Raises:
        DataUnavailableError: the data is unavailable.
        EventLogError: the log is not to be learned from.
        EvaluatorRejectedError: the evaluator failed its checks.
        CheckpointError: `run` holds a run with another configuration.
        ValueError: the policy is to start from scores, and no training list came with any.
    """
    run.mkdir(parents=True, exist_ok=True)
    if (run / CONFIG).exists() and load_config(run) != config:
        raise CheckpointError(
            f"{run} holds a run with another configuration; give another --run or remove it"
        )
    save_text(run / CONFIG, config.model_dump_json(indent=2))
    log = RunLog(run)
    if (run / SUMMARY).exists():
        log.say(f"{run} is already trained")
        return
    started = time.monotonic()

    dataset = open_checked(config, log.say)
    if config.policy.base_score and all(slate.scores is None for slate in dataset.slates["train"]):
        raise ValueError(
            "policy.base_score: no training list came with scores; `python -m model.first_stage` makes some"
        )
    features = DatasetFeatures.fit(dataset, config.features)
    save_features(run, features.serving)
    sizes = feature_sizes(features.serving)
    training = examples(dataset.slates["train"][: config.training_lists], features, training=True)
    held_out = examples(dataset.slates["validation"], features, training=False)
    people = [slate.user_id for slate in dataset.slates["validation"]]
    score = held_out_score(dataset)

    evaluator, reports = train_evaluator(config, run, log, sizes, training, held_out)
    save_tensors(run / EVALUATOR_WEIGHTS, evaluator.state_dict())
    worth = None
    if config.evaluator.context:
        columns = features.serving.candidate_columns
        worth = report_context(config, run, log, columns, sizes, evaluator, training, held_out, people)
    if config.learns_from_evaluator:
        for report in reports:
            report.check(config.evaluator.largest_calibration_error)

    torch.manual_seed(config.seed)
    policy = Policy(config.policy, sizes)
    scores = fit_policy(config, run, log, policy, evaluator, training, held_out, score)
    kept = max(scores, key=lambda phase: scores[phase])
    gate = calibrate(policy, held_out, config.policy.reasoner.gate_quantile)

    save_text(run / GATE, gate.model_dump_json(indent=2))
    result = {
        "dataset": dataset.name,
        "seed": config.seed,
        "training_lists": len(training),
        "kept": kept,
        "held_out": scores,
        "evaluator": reports[0].model_dump(),
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
    log.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.train", description=__doc__.split("\n\n")[1])
    parser.add_argument("--config", type=Path, default=Path("configs/ranklens.toml"), help="TOML file")
    parser.add_argument("--run", type=Path, required=True, help="directory of the run; resumed if it exists")
    parser.add_argument(
        "--event-log", type=Path, help="your own log in the event format, or the directory of a decision log"
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--quick", action="store_true", help="a minute or two, not the best model")
    arguments = parser.parse_args()
    changes: dict[str, object] = {"seed": arguments.seed} if arguments.seed is not None else {}
    if arguments.event_log:
        changes |= {"dataset": "event_log", "event_log": arguments.event_log}
    if arguments.quick:
        changes |= QUICK
    try:
        train(read_config(arguments.config, changes), arguments.run)
    except (RerankerError, ValueError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
