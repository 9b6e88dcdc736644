"""What a log holds, before anything is trained on it: `python -m model.data context LOG --config my.toml`.

`context` fits a click model with and without the order and the neighbours of a list, and says how much they
are worth on held-out lists, and so whether reasoning can pay at all.
"""

import argparse
import tempfile
from pathlib import Path

from bundle.errors import RerankerError
from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.progress import console
from model.sizes import feature_sizes
from model.training.config import RunConfig, read_config
from model.training.context import ContextReport, report_context
from model.training.examples import examples
from model.training.fit_evaluator import fit_one
from model.training.phase import RunLog


def context(config: RunConfig) -> ContextReport:
    """What order and neighbours are worth in the configured log, on its validation lists."""
    dataset = open_dataset(config)
    console.print(dataset.summary())
    features = DatasetFeatures.fit(dataset, config.features)
    train = examples(dataset.slates["train"][: config.training_lists], features, training=True)
    held_out = examples(dataset.slates["validation"], features, training=False)
    sizes, columns = feature_sizes(features.serving), features.serving.candidate_columns
    people = [slate.user_id for slate in dataset.slates["validation"]]
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        log = RunLog(run)
        evaluator = fit_one(config, "evaluator", run, log, sizes, train, held_out)
        found = report_context(config, run, log, columns, sizes, evaluator, train, held_out, people)
        log.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.data", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(required=True)
    asked = commands.add_parser("context", help="what the order and the neighbours of a list are worth")
    asked.add_argument("log", type=Path, nargs="?", help="in the event format; else the configuration's data")
    asked.add_argument("--config", type=Path, required=True, help="TOML file that declares the log's fields")
    asked.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    changes: dict[str, object] = {"seed": arguments.seed}
    if arguments.log:
        changes |= {"dataset": "event_log", "event_log": arguments.log}
    try:
        context(read_config(arguments.config, changes))
    except (RerankerError, ValueError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
