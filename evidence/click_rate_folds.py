"""In how many folds click rates are counted for training: `python -m evidence.click_rate_folds`.

Over all folds together an item's clicks are constant, so its rate out of fold is lower exactly where its
own fold clicked more. What LambdaMART makes of that shows on labels shuffled within their lists, where
nothing is to be learned: it is fitted on four fifths of the training people, stopped where NDCG@10 of the
others is best, and measured against chance on both, and on held-out lists, whose rates are of all training
people. The number of folds is chosen by validation lists' labels, on all splits of the log.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bundle.features.schema import FeatureSchema
from evidence.data import DATA
from evidence.intervals import Gap, Run, gap
from evidence.pages import table
from export.provenance import commit, hardware
from model.baselines import lambdamart
from model.data.features import FOLDS, DatasetFeatures
from model.data.folds import FOLDS as SPLITS_OF_LOG
from model.data.folds import rotated
from model.data.open_dataset import open_dataset
from model.data.slate import SPLITS, Dataset, LoggedSlate, Split, bucket_of
from model.metrics import ndcg
from model.training.examples import Example, examples

DATASET = "ranklens"
ONE_PERSON = 1_000_000
"""So many folds that every person is in one of their own."""

TRIED = (10, 5, 2, 20, ONE_PERSON)
K = 10
LEFT_OUT_OF = 5
"""One in so many training people is left out of a fit on shuffled labels."""

FITTED, LEFT_OUT = "fitted on", "training people left out"
Values = NDArray[np.float32]


class Lists(NamedTuple):
    """NDCG of lists, `[B]`, NaN where nothing is relevant, and whose they are, `[B]`."""

    values: Values
    people: NDArray[np.int64]


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    """The same lists, their labels shuffled within them."""
    rng = np.random.default_rng(seed)
    slates: dict[Split, Sequence[LoggedSlate]] = {
        split: [replace(slate, labels=rng.permutation(slate.labels)) for slate in dataset.slates[split]]
        for split in SPLITS
    }
    return replace(dataset, slates=slates)


def chance(slate: LoggedSlate) -> float:
    """Expected NDCG of any order of the list, were its labels shuffled; NaN where nothing is relevant."""
    discount = 1 / np.log2(np.arange(len(slate.labels)) + 2.0)
    relevant = int(slate.labels.sum())
    if not relevant:
        return float("nan")
    return float(discount[:K].sum() * relevant / len(slate.labels) / discount[: min(relevant, K)].sum())


def above_chance(dataset: Dataset, schema: FeatureSchema, folds: int, seed: int) -> dict[str, Lists]:
    """NDCG minus chance, by part of the data, of a ranker fitted on shuffled labels."""
    features = DatasetFeatures.fit(dataset, schema, folds)
    left_out = [bucket_of(f"left out:{s.user_id}", LEFT_OUT_OF) == 0 for s in dataset.slates["train"]]
    parts = {
        FITTED: [s for s, out in zip(dataset.slates["train"], left_out, strict=True) if not out],
        LEFT_OUT: [s for s, out in zip(dataset.slates["train"], left_out, strict=True) if out],
        "validation": dataset.slates["validation"],
        "test": dataset.slates["test"],
    }
    rows = {part: examples(slates, features, part in (FITTED, LEFT_OUT)) for part, slates in parts.items()}
    ranker = lambdamart.fit(rows[FITTED], rows[LEFT_OUT], seed)
    found = {}
    for part, slates in parts.items():
        own = measured(ranker, rows[part], slates)
        found[part] = own._replace(values=own.values - np.array([chance(slate) for slate in slates]))
    return found


def measured(ranker: lambdamart.LambdaMART, rows: Sequence[Example], slates: Sequence[LoggedSlate]) -> Lists:
    values = ndcg(ranker.orders(rows), [row.labels for row in rows], K)
    _, people = np.unique([slate.user_id for slate in slates], return_inverse=True)
    return Lists(values.astype(np.float32), people)


def validation(dataset: Dataset, schema: FeatureSchema, folds: int) -> Lists:
    """NDCG of the validation lists by a ranker fitted on all training lists, true labels."""
    features = DatasetFeatures.fit(dataset, schema, folds)
    train, held_out = dataset.slates["train"], dataset.slates["validation"]
    rows = examples(held_out, features, training=False)
    return measured(lambdamart.fit(examples(train, features, training=True), rows, 0), rows, held_out)


def leak(dataset: Dataset, schema: FeatureSchema, permutations: int) -> str:
    """NDCG above chance on shuffled labels of user fold 0, by number of folds."""
    parts = (FITTED, LEFT_OUT, "validation", "test")
    rows = []
    log = rotated(dataset, 0)
    without_rates = schema.model_copy(update={"item_ctr": False})
    for name, used, folds in [("no click rate", without_rates, 2), *((of(f), schema, f) for f in TRIED)]:
        found = [above_chance(shuffled(log, n), used, folds, n) for n in range(permutations)]
        runs = {part: {(0, n): lists[part].values for n, lists in enumerate(found)} for part in parts}
        rows.append(
            [name, *(interval(gap(runs[p], {0: found[0][p].people}, worlds_vary=False)) for p in parts)]
        )
        print(*rows[-1], flush=True)
    return table(["folds", *parts], rows)


def choice(dataset: Dataset, schema: FeatureSchema) -> str:
    """Validation NDCG on true labels, and what it is above that of the number in use."""
    found: dict[int, list[Lists]] = {}
    rows = []
    for folds in (FOLDS, *(tried for tried in TRIED if tried != FOLDS)):
        found[folds] = [validation(rotated(dataset, n), schema, folds) for n in range(SPLITS_OF_LOG)]
        pairs = list(zip(found[folds], found[FOLDS], strict=True))
        gaps: dict[Run, Values] = {(n, 0): own.values - other.values for n, (own, other) in enumerate(pairs)}
        people = {n: own.people for n, own in enumerate(found[folds])}
        means = [float(np.nanmean(own.values)) for own in found[folds]]
        cells = [f"{np.mean(means):.4f}", " ".join(f"{mean:.4f}" for mean in means)]
        rows.append([of(folds), *cells, "" if folds == FOLDS else interval(gap(gaps, people, False))])
        print(*rows[-1], flush=True)
    return table(["folds", "validation NDCG@10", "by fold of the log", f"minus {FOLDS} folds"], rows)


def of(folds: int) -> str:
    return "one person" if folds == ONE_PERSON else str(folds)


def interval(found: Gap) -> str:
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.click_rate_folds", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--permutations", type=int, default=5, help="of the labels within lists")
    parser.add_argument("--only", choices=("leak", "choice"), help="one of the two tables")
    arguments = parser.parse_args()
    config = DATA[DATASET].run_config(0)
    dataset = open_dataset(config)
    print(f"{commit()}, {hardware()}")
    with threadpool_limits(1):
        if arguments.only != "choice":
            print(leak(dataset, config.features, arguments.permutations))
        if arguments.only != "leak":
            print(choice(dataset, config.features))


if __name__ == "__main__":
    main()
