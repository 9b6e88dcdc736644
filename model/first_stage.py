"""An initial ranker for a log that came without one: LambdaMART, out of fold.

    python -m model.first_stage --config my.toml --event-log my.jsonl.gz --out scored.jsonl.gz

writes the log again with its scores. Each training list is scored by a ranker that has not seen its user, as
in production, where the initial ranker is older than the lists it scores; held-out lists by one fitted on all
training lists.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from bundle.errors import faults_told
from bundle.features.schema import FeatureSchema
from model.baselines import lambdamart
from model.data.event_log import write_with_scores
from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.data.slate import SPLITS, Dataset, LoggedSlate, Split, bucket_of
from model.progress import console
from model.training.config import RunConfig, read_config
from model.training.examples import Example, examples
from model.training.selection import held_out_score

INNER_FOLDS = 5


def with_scores(dataset: Dataset, schema: FeatureSchema, seed: int) -> Dataset:
    """The dataset with `scores` on every list; fitted and stopped on the training split alone."""
    features = DatasetFeatures.fit(dataset, schema)
    rows = {split: examples(dataset.slates[split], features, split == "train") for split in SPLITS}
    folds = np.array([bucket_of(f"inner:{slate.user_id}", INNER_FOLDS) for slate in dataset.slates["train"]])
    scored: dict[Split, list[LoggedSlate]] = {"train": list(dataset.slates["train"])}
    for fold in range(INNER_FOLDS):
        # The next fold decides when to stop, so that validation lists stay unseen by the first stage.
        stop, out = _pick(rows["train"], folds == (fold + 1) % INNER_FOLDS), np.flatnonzero(folds == fold)
        fitted = _pick(rows["train"], (folds != fold) & (folds != (fold + 1) % INNER_FOLDS))
        for index, scores in zip(
            out, lambdamart.fit(fitted, stop, seed).scores(_pick(rows["train"], folds == fold)), strict=True
        ):
            scored["train"][index] = replace(scored["train"][index], scores=tuple(scores.tolist()))
    ranker = lambdamart.fit(_pick(rows["train"], folds != 0), _pick(rows["train"], folds == 0), seed)
    for split in ("validation", "test"):
        scored[split] = [
            replace(slate, scores=tuple(scores.tolist()))
            for slate, scores in zip(dataset.slates[split], ranker.scores(rows[split]), strict=True)
        ]
    return replace(dataset, slates=scored)


def score_log(config: RunConfig, out: Path) -> None:
    """Write the configured event log to `out` with the scores of a first stage of its own.

    Raises:
        DataUnavailableError, EventLogError: the log is not there or malformed.
        ValueError: there is no usable training list.
    """
    assert config.event_log is not None
    unscored = config.features.model_copy(update={"initial_score": False})
    dataset = with_scores(open_dataset(config), unscored, config.seed)
    scores = {
        slate.request_id: dict(zip(slate.candidates, slate.scores, strict=True))
        for split in SPLITS
        for slate in dataset.slates[split]
        if slate.scores is not None
    }
    write_with_scores(config.event_log, out, scores)
    orders = [np.argsort(-np.array(slate.scores), kind="stable") for slate in dataset.slates["validation"]]
    _, held_out = held_out_score(dataset)(orders)
    console.print(f"{out}: {len(scores)} lists scored; held-out NDCG@10 by score {held_out['ndcg@10']:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.first_stage", description=__doc__.split("\n\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="TOML file with the features")
    parser.add_argument("--event-log", type=Path, required=True, help="a log in the event format")
    parser.add_argument("--out", type=Path, required=True, help="the log to write; gzip if it ends in .gz")
    arguments = parser.parse_args()
    changes = {"dataset": "event_log", "event_log": arguments.event_log}
    with faults_told(ValueError):
        score_log(read_config(arguments.config, changes), arguments.out)


def _pick(rows: list[Example], kept: np.ndarray) -> list[Example]:
    return [row for row, keep in zip(rows, kept, strict=True) if keep]


if __name__ == "__main__":
    main()
