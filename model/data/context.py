"""What the order and the neighbours of a list are worth, before a policy is trained."""

import tempfile
from pathlib import Path

from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.progress import console
from model.sizes import feature_sizes
from model.training.config import RunConfig
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
