"""Lists of a bundle's log for the console to offer: `python -m export.console_lists BUNDLE > lists.jsonl`.

Of the test split, with what was known of each list's user before it, what its items are called and which were
liked: a line of `service.bodies.console.ExampleList` each.
"""

import argparse
import json
import random
from collections.abc import Iterator, Mapping
from math import isnan
from pathlib import Path
from typing import Any

from bundle.errors import faults_told
from bundle.repository import locate
from model.data.open_dataset import open_dataset
from model.data.slate import Dataset, LoggedSlate
from model.training.checkpoint import load_config


def example_lists(dataset: Dataset, count: int, title: str, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Random lists in which something was liked, at most one a person.

    Args:
        title: the field of items that says what they are called, if they have it.
    """
    by_user = {slate.user_id: slate for slate in dataset.slates["test"] if slate.labels.any()}
    drawn = random.Random(seed).sample(list(by_user.values()), min(count, len(by_user)))
    for number, slate in enumerate(drawn, start=1):
        yield _line(number, slate, dataset.items, title)


def _line(
    number: int, slate: LoggedSlate, items: Mapping[str, Mapping[str, Any]], title: str
) -> dict[str, Any]:
    liked = [item for item, label in zip(slate.candidates, slate.labels, strict=True) if label]
    history = [{"item_id": event.item_id, "type": event.type} for event in slate.user.history]
    shown = {*slate.candidates, *(event.item_id for event in slate.user.history)}
    return {
        "name": f"List {number}: {len(slate.candidates)} items, {len(liked)} liked",
        "request": {
            "items": [_item(slate, place) for place in range(len(slate.candidates))],
            "context": {**slate.context, "timestamp": slate.timestamp},
        },
        "user": {"profile": dict(slate.user.profile), "history": history},
        "titles": {item: str(items[item][title]) for item in shown if items.get(item, {}).get(title)},
        "liked": liked,
    }


def _item(slate: LoggedSlate, place: int) -> dict[str, Any]:
    item: dict[str, Any] = {"id": slate.candidates[place]}
    if slate.scores is not None and not isnan(slate.scores[place]):
        item["score"] = slate.scores[place]
    if slate.features is not None and slate.features[place]:
        item["features"] = dict(slate.features[place])
    return item


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m export.console_lists", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--title", default="title", help="field of items that says what they are called")
    arguments = parser.parse_args()
    with faults_told():
        dataset = open_dataset(load_config(locate(arguments.bundle)))
    for line in example_lists(dataset, arguments.count, arguments.title):
        print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main()
