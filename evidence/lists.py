"""Which lists the logs give: `python -m evidence.lists` writes docs/results/lists.json for the page."""

import json
from typing import Any

import numpy as np

from evidence.data import DATA
from evidence.results import RESULTS
from model.data.folds import FOLDS
from model.data.open_dataset import open_dataset
from model.data.slate import SPLITS, Dataset
from model.progress import console
from model.training.checkpoint import save_text

STORED = RESULTS / "lists.json"


def described(data: str, dataset: Dataset) -> dict[str, Any]:
    """Used and dropped lists; of each fold the share of training lists later than its median test list."""
    slates = [slate for split in SPLITS for slate in dataset.slates[split]]
    later = []
    for fold in range(FOLDS):
        parts = DATA[data].split(dataset, fold).slates
        train, test = ([slate.timestamp for slate in parts[split]] for split in ("train", "test"))
        later.append(round(float(np.mean(np.array(train) > np.median(test))), 3))
    return {
        "lists": len(slates),
        "people": len({slate.user_id for slate in slates}),
        "candidates": round(float(np.mean([len(slate.candidates) for slate in slates])), 2),
        "positive": round(float(np.mean([slate.labels.sum() for slate in slates])), 2),
        "dropped": dict(sorted(dataset.dropped.items())),
        "later": later,
    }


def main() -> None:
    found = {}
    for name, data in DATA.items():
        if not data.known:
            found[name] = described(name, open_dataset(data.run_config(0)))
            console.print(f"{name}: {found[name]}")
    save_text(STORED, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
