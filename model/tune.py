"""Look for a better configuration for a log: `python -m model.tune --config C --event-log LOG --run DIR`.

Every trial is a training of its own in a process, which is ended when the minutes are over. The first is the
configuration as given, so that what is found is never worse on the validation split, which alone decides; the
test split is not looked at. Beside the trials stands a LambdaMART chosen on the same lists. Run again, it
goes on with as many more minutes: trials are kept, one that was ended goes on from its last epoch. Proposals
are those of Optuna's TPE (Bergstra et al. 2011). At its end `best.toml` in the directory is a configuration
for `model.train`, and `result.json` has the scores.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.markup import escape
from rich.table import Table

from bundle.errors import RerankerError, faults_told
from model.baselines import lambdamart
from model.baselines.task import Task
from model.data.features import DatasetFeatures
from model.data.fingerprint import fingerprint
from model.data.open_dataset import open_dataset
from model.data.toml_file import as_toml, read_toml, validated
from model.progress import console
from model.sizes import feature_sizes
from model.training.checkpoint import SUMMARY, alone_in, load_summary, save_text
from model.training.config import RunConfig
from model.training.examples import examples
from model.training.selection import held_out_score

STUDY, TRIALS, BEST, OUTPUT, RESULT = "study.db", "trials", "best.toml", "output.txt", "result.json"
LAMBDAMART = "LambdaMART"
RANDOM_TRIALS = 8
"""Before what was found guides what is tried."""


@dataclass(frozen=True)
class Between:
    """Numbers from low to high, whole ones if both are; `log` draws their logarithm evenly."""

    low: float
    high: float
    log: bool = False

    def drawn(self, trial: Trial, name: str, given: float) -> float:
        """From this range widened to what was given."""
        low, high = min(self.low, given), max(self.high, given)
        if isinstance(self.low, int):
            return trial.suggest_int(name, int(low), int(high), log=self.log)
        return trial.suggest_float(name, low, high, log=self.log)


@dataclass(frozen=True)
class Among:
    """One of a few."""

    values: tuple[int, ...]

    def drawn(self, trial: Trial, name: str, given: int) -> int:
        """Of these and what was given."""
        return trial.suggest_categorical(name, sorted({*self.values, given}))


WIDTHS, RATES = Among((32, 64, 96, 128)), Between(5e-4, 1e-2, log=True)
SPACE: Mapping[str, Between | Among] = {
    "policy.width": WIDTHS,
    "policy.encoder.self_attention_layers": Among((0, 1, 2)),
    "policy.encoder.dropout": Between(0.0, 0.5),
    "policy.reasoner.budget": Among((0, 1, 2, 3)),
    "evaluator.width": WIDTHS,
    "evaluator.epochs": Between(4, 16),
    "evaluator.learning_rate": RATES,
    "supervised.epochs": Between(2, 20),
    "supervised.learning_rate": RATES,
    "imitation.epochs": Between(2, 16),
    "imitation.learning_rate": RATES,
    "expert_iteration.epochs": Between(2, 16),
    "expert_iteration.learning_rate": RATES,
    "reinforcement.epochs": Between(1, 3),
    "reinforcement.learning_rate": Between(1e-5, 1e-3, log=True),
}
"""All that is tried, each range widened to the value that is given. Phases that the configuration leaves out
stay out, and everything else stays as it is."""


class TuneError(RerankerError):
    """There is nothing to tune, or nothing came of it."""


@dataclass(frozen=True)
class Tuning:
    """A search in a directory: from a file's values and the configuration that they make."""

    values: dict[str, Any]
    config: RunConfig
    directory: Path

    def given(self) -> dict[str, Any]:
        """What the configuration has of the space."""
        learned = {*self.config.learns_from_evaluator, "policy"}
        learned |= {"supervised"} if self.config.supervised.epochs else set()
        learned |= {"evaluator"} if self.config.learns_from_evaluator else set()
        found = {}
        for name in SPACE:
            if name.split(".")[0] in learned:
                value: Any = self.config
                for part in name.split("."):
                    value = getattr(value, part)
                found[name] = value
        return found

    def changed(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The file's values with others in their place."""
        values = json.loads(json.dumps(self.values, default=str))
        for name, value in changes.items():
            *tables, key = name.split(".")
            table = values
            for part in tables:
                table = table.setdefault(part, {})
            table[key] = value
        return dict(values)


def tune(tuning: Tuning, minutes: float, trials: int | None = None) -> optuna.Study:
    """Try configurations until the minutes are over, `trials` of them at most.

    Raises:
        TuneError: the directory holds another search, or the configuration as given comes to nothing.
    """
    deadline = time.monotonic() + 60.0 * minutes
    given = tuning.given()
    study = _opened(tuning)
    again = list(_unfinished(study))
    waiting = len(_begun(study)) < len(study.trials)
    if not waiting and not _as_given([*again, *_finished(study)]):
        study.enqueue_trial(given)
    for earlier in again:
        if earlier.state is TrialState.RUNNING:
            study.tell(earlier.number, state=TrialState.FAIL)
        study.enqueue_trial(earlier.params)
        study.set_user_attr(f"again {earlier.number}", True)
    ends = None if trials is None else len(_begun(study)) + trials
    while (left := deadline - time.monotonic()) > _shortest(study) and len(_begun(study)) != ends:
        trial = study.ask()
        drawn = {name: SPACE[name].drawn(trial, name, value) for name, value in given.items()}
        changes = {name: value for name, value in drawn.items() if value != given[name]}
        _try(tuning, study, trial, changes, left)
        tried = study.trials[trial.number]
        if not changes and tried.state is TrialState.FAIL:
            raise TuneError(f"the configuration as given fails: {tried.user_attrs['told']}")
        if _as_given(_finished(study)):
            _lambdamart(tuning, study)
    if not _as_given(_finished(study)):
        raise TuneError(
            f"the configuration as given did not come to its end in {minutes:g} minutes; "
            "the same command goes on"
        )
    return study


def _opened(tuning: Tuning) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{tuning.directory / STUDY}")
    study = optuna.create_study(storage=storage, study_name="tune", direction="maximize", load_if_exists=True)
    # Begun again with the seed, the sampler would propose what it did before.
    seed = tuning.config.seed + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
    of = {"configuration": tuning.config.model_dump_json(), "log": fingerprint(tuning.config)}
    if study.user_attrs.get("of", of) != of:
        raise TuneError(
            f"{tuning.directory} holds a search of another configuration or log; give another --run"
        )
    study.set_user_attr("of", of)
    return study


def _try(
    tuning: Tuning, study: optuna.Study, trial: Trial, changes: Mapping[str, Any], seconds: float
) -> None:
    """One training, for so many seconds at most."""
    text = as_toml(tuning.changed(changes))
    run = tuning.directory / TRIALS / f"{trial.number:03}"
    for earlier in study.trials[: trial.number]:  # one that was ended goes on where it was
        if earlier.user_attrs.get("changes") == dict(changes) and _stopped(earlier):
            run = tuning.directory / earlier.user_attrs["run"]
    run.mkdir(parents=True, exist_ok=True)
    path = run.with_suffix(".toml")
    save_text(path, text)
    trial.set_user_attr("changes", dict(changes))
    trial.set_user_attr("run", str(run.relative_to(tuning.directory)))
    command = [sys.executable, "-m", "model.trial", "--config", str(path), "--run", str(run)]
    started, state, value, told = time.monotonic(), TrialState.FAIL, None, ""
    with (
        (run / OUTPUT).open("a") as output,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            if status := process.wait(seconds):
                lines = (run / OUTPUT).read_text().strip().splitlines() or [""]
                told = f"exit status {status}: {lines[-1]}"
            else:
                summary = load_summary(run)
                state, value = TrialState.COMPLETE, summary["held_out"][summary["kept"]]
                told = f"kept the {summary['kept']}"
        except subprocess.TimeoutExpired:
            state, told = TrialState.PRUNED, "ended: the minutes were over"
        finally:
            process.kill()
    trial.set_user_attr("told", told)
    trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
    study.tell(trial, value, state=None if value is not None else state)
    score = "" if value is None else f" {value:.4f} on validation,"
    console.print(escape(f"trial {trial.number}:{score} {told}; {_said(changes)}"))


def _lambdamart(tuning: Tuning, study: optuna.Study) -> float:
    """Score of LambdaMART on the validation lists, by which its trees and leaves are chosen; fitted once in a
    search."""
    if LAMBDAMART not in study.user_attrs:
        study.set_user_attr(LAMBDAMART, lambdamart_score(tuning.config, tuning.directory))
    return float(study.user_attrs[LAMBDAMART])


def lambdamart_score(config: RunConfig, run: Path) -> float:
    """What its lists of the validation split score, cut to the slate's length as the policy's are. It learns
    from the same lists, with every column that the policy sees."""
    dataset = open_dataset(config)
    features = DatasetFeatures.fit(dataset, config.features)
    train = examples(dataset.slates["train"][: config.training_lists], features, training=True)
    held_out = examples(dataset.slates["validation"], features, training=False)
    columns, sizes = features.serving.candidate_columns, feature_sizes(features.serving)
    length, score = config.policy.slate_length, held_out_score(dataset)
    task = Task(train, held_out, held_out, columns, sizes, length, config.seed, score, None, run)
    value, _ = score([order[:length] for order in lambdamart.rank_all_columns(task)])
    return value


def _begun(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.trials if trial.state is not TrialState.WAITING]


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.trials if trial.state is TrialState.COMPLETE]


def _as_given(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The one of them that changed nothing."""
    return next((trial for trial in trials if not trial.user_attrs["changes"]), None)


def _stopped(trial: FrozenTrial) -> bool:
    """Whether it began and came to no end of its own."""
    begun, told = "changes" in trial.user_attrs, "told" in trial.user_attrs
    return trial.state is TrialState.PRUNED or (begun and not told)


def _unfinished(study: optuna.Study) -> Iterator[FrozenTrial]:
    """What was ended by the minutes or with the whole search, and was not begun again."""
    for trial in study.trials:
        if _stopped(trial) and f"again {trial.number}" not in study.user_attrs:
            yield trial


def _shortest(study: optuna.Study) -> float:
    """Seconds below which no trial has come to its end, so that none is begun in vain."""
    return min((trial.user_attrs["seconds"] for trial in _finished(study)), default=0.0)


def _said(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {float(f'{value:.3g}'):g}" for name, value in changes.items()) or "as given"


def report(tuning: Tuning, study: optuna.Study) -> str:
    """Print the trials and LambdaMART among them, write the best configuration and the result. Returns in
    sentences what was found."""
    ranker = _lambdamart(tuning, study)
    rows: list[tuple[float | None, tuple[str, ...]]] = [
        (ranker, (LAMBDAMART, f"{ranker:.4f}", "", "all columns", "trees and leaves chosen on these lists"))
    ]
    for trial in study.trials:
        if told := trial.user_attrs.get("told"):
            score = "" if trial.value is None else f"{trial.value:.4f}"
            spent = f"{trial.user_attrs['seconds'] / 60:.1f}"
            said = _said(trial.user_attrs["changes"])
            rows.append((trial.value, (str(trial.number), score, spent, said, escape(told))))
    table = Table(title="trials, by their score on validation lists")
    for column in ("trial", "score", "minutes", "changes", "outcome"):
        table.add_column(column)
    for _, row in sorted(rows, key=lambda one: (one[0] is None, -(one[0] or 0.0))):
        table.add_row(*row)
    console.print(table)
    done, best, path = _finished(study), study.best_trial, tuning.directory / BEST
    as_given = _as_given(done)
    assert as_given is not None
    assert as_given.value is not None
    assert best.value is not None
    gain = best.value - as_given.value
    if gain <= 0.0:
        best = as_given
        found = f"none of {len(done)} trials beats the configuration as given, {as_given.value:.4f}"
    else:
        found = (
            f"{best.value:.4f} in trial {best.number}, {as_given.value:.4f} as given: {gain:+.4f}, "
            f"which as the best of {len(done)} trials is in part luck"
        )
    save_text(path, as_toml(tuning.changed(best.user_attrs["changes"])))
    run = tuning.directory / best.user_attrs["run"]
    result = {"as given": as_given.value, "best": study.best_value, LAMBDAMART: ranker, "trials": len(done)}
    save_text(tuning.directory / RESULT, json.dumps({**result, "run": str(run)}, indent=2))
    return (
        f"on validation lists, {found}. {_beside(ranker, as_given.value, study.best_value)} The test lists "
        f"were not looked at: `python -m export` of {run} and `python -m export.evaluate` say what it is "
        f"worth there, and LambdaMART beside it. The configuration is {path}"
    )


def _beside(ranker: float, as_given: float, best: float) -> str:
    """What LambdaMART on the same lists says of the need to tune."""
    known = f"LambdaMART with all columns, the best of its sizes on these lists, has {ranker:.4f}"
    if ranker < as_given:
        return f"{known}: less than the configuration as given, by {as_given - ranker:.4f}, without tuning."
    if ranker < best:
        return f"{known}: more than as given, less than the best trial, by {best - ranker:.4f}."
    return f"{known}: no trial is ahead of it, the best is {ranker - best:.4f} behind."


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.tune", description=__doc__.split("\n\n")[1])
    parser.add_argument("--config", type=Path, required=True, help="TOML file, to begin with")
    parser.add_argument(
        "--event-log", type=Path, help="your own log in the event format, or the directory of a decision log"
    )
    parser.add_argument("--minutes", type=_minutes, default=60.0, help="how long, of this call")
    parser.add_argument("--trials", type=int, help="how many at most, of this call")
    parser.add_argument(
        "--run", type=Path, required=True, help="directory of the search; goes on if it exists"
    )
    arguments = parser.parse_args()
    try:
        with faults_told(ValueError):
            values = read_toml(arguments.config)
            if arguments.event_log:
                values |= {"dataset": "event_log", "event_log": str(arguments.event_log)}
            config = validated(RunConfig, values, arguments.config)
            if config.selection == "evaluator":
                told = "selection: with `evaluator` every trial is its own judge; use `labels`"
                raise TuneError(f"{arguments.config}: {told}")
            if (arguments.run / SUMMARY).exists():
                raise TuneError(f"{arguments.run} holds a training; give another --run")
            with alone_in(arguments.run):
                tuning = Tuning(values, config, arguments.run)
                console.print(escape(report(tuning, tune(tuning, arguments.minutes, arguments.trials))))
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on") from None


def _minutes(text: str) -> float:
    value = float(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected minutes above 0, got {text}")
    return value


if __name__ == "__main__":
    main()
